#include "monitor/program/log.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "base/strings.h"

namespace fluyt::monitor {
namespace {

TEST(LastWords, AreTheLastErrors) {
  EXPECT_EQ(last_words(R"({"level":"warning","msg":"odd","time":"t"}
{"level":"error","msg":"first"}
{"level":"error","msg":"runc create failed: no such file"}
{"level":"info","msg":"leaving"}
)"),
            "runc create failed: no such file");
}

TEST(LastWords, AreTheLastLineWhereNoneIsAnError) {
  EXPECT_EQ(last_words("{\"level\":\"warning\",\"msg\":\"w\"}\n\n"), "w");
  EXPECT_EQ(last_words("first\nflag provided but not defined: -log-format\n"),
            "flag provided but not defined: -log-format");
}

TEST(LastWords, AreReadFromObjectsOfSeveralLines) {
  const std::string log =
      "{\n  \"msg\": \"cannot stat `\\/no\\/such`\",\n  \"level\": \"error\",\n  \"time\": "
      "\"t\"\n}\n";
  EXPECT_EQ(last_words(log), "cannot stat `/no/such`");
  EXPECT_EQ(last_words(log + "{\n  \"msg\": \"later\",\n  \"level\": \"warning\"\n}\n"),
            "cannot stat `/no/such`");
  EXPECT_EQ(last_words("{\n  \"msg\": \"half"), "{\"msg\": \"half");
}

TEST(LastWords, AreEmptyOfAnEmptyLog) {
  EXPECT_EQ(last_words(""), "");
  EXPECT_EQ(last_words("\n \n"), "");
  EXPECT_EQ(last_words(R"({"level":"error"})"), "");
}

TEST(LastWords, AreBoundedAndPlain) {
  const std::string words = last_words(
      cat(R"({"level":"error","msg":"a\u001b[31m\nb)", std::string(20'000, 'x'), R"("})"));
  EXPECT_EQ(words.size(), kMaxLogWordsBytes);
  EXPECT_TRUE(words.starts_with("a [31m bxx"));
  EXPECT_FALSE(has_control_characters(words));
  EXPECT_TRUE(is_utf8(last_words("caf\xe9 closed")));
  // Half a line at the cut is no JSON, and no reason to read on for ever.
  EXPECT_EQ(last_words(cat(std::string(100'000, 'y'), "\nend\n")), "end");
}

}  // namespace
}  // namespace fluyt::monitor
