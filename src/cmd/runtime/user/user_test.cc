#include "cmd/runtime/user/user.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace fluyt::commands {
namespace {

using ::testing::HasSubstr;

oci::User user(uint32_t uid, uint32_t gid) {
  oci::User out;
  out.uid = uid;
  out.gid = gid;
  return out;
}

TEST(SetUser, TakesWholeNumbers) {
  struct {
    std::string_view text;
    uint32_t uid, gid;
  } const rows[] = {{"0", 0, 7},         {"1", 1, 7},
                    {"1:2", 1, 2},       {"01", 1, 7},
                    {"010:020", 10, 20}, {"2147483646", 2147483646, 7},
                    {"0:0", 0, 0},       {"5:2147483646", 5, 2147483646}};
  for (const auto& row : rows) {
    oci::User got = user(6, 7);
    ASSERT_TRUE(set_user(row.text, got).ok()) << row.text;
    EXPECT_EQ(got.uid, row.uid) << row.text;
    EXPECT_EQ(got.gid, row.gid) << row.text;
  }
}

TEST(SetUser, RefusesEverythingElseAndChangesNothing) {
  for (const std::string_view text : {"",
                                      ":",
                                      ":2",
                                      "1:",
                                      "1x",
                                      "x1",
                                      " 1",
                                      "1 ",
                                      "+1",
                                      "-1",
                                      "0x1",
                                      "1:2:3",
                                      "1,2",
                                      "1.0",
                                      "root",
                                      "4294967296",
                                      "4294967295",
                                      "2147483647",
                                      "18446744073709551616",
                                      "1:4294967296",
                                      "1\n",
                                      "1:root",
                                      "\xd9\xa1"}) {
    oci::User got = user(6, 7);
    const auto done = set_user(text, got);
    ASSERT_FALSE(done.ok()) << text;
    EXPECT_THAT(done.error().message(), HasSubstr("option --user: "));
    EXPECT_EQ(got.uid, 6U) << text;
    EXPECT_EQ(got.gid, 7U) << text;
  }
}

}  // namespace
}  // namespace fluyt::commands
