#include <gtest/gtest.h>

#include <cerrno>

#include "base/id.h"
#include "base/log_levels.h"
#include "base/result.h"
#include "base/strings.h"
#include "base/time.h"

namespace fluyt {
namespace {

Result<std::unique_ptr<int>> make(bool good) {
  if (!good) return Error::from_errno(EPERM, "mount(\"/x\")");
  return std::make_unique<int>(7);
}

Result<int> use(bool good) {
  auto value = FLUYT_TRY_CONTEXT(make(good), "container 4f2a");
  return *value;
}

TEST(Result, TryUnwrapsMoveOnlyValues) { EXPECT_EQ(use(true).value(), 7); }

TEST(Result, TryReturnsTheErrorWithItsContext) {
  auto result = use(false);
  ASSERT_FALSE(result.ok());
  EXPECT_EQ(result.error().message(),
            "container 4f2a: mount(\"/x\") = EPERM: Operation not permitted");
  EXPECT_EQ(result.error().code(), Code::kPermissionDenied);
  EXPECT_EQ(result.error().errno_value(), EPERM);
}

TEST(LogLevels, AreReadAsTheyAreNamed) {
  for (const LogLevel level :
       {LogLevel::kTrace, LogLevel::kDebug, LogLevel::kInfo, LogLevel::kWarn, LogLevel::kError}) {
    EXPECT_EQ(parse_log_level(log_level_name(level)).value(), level);
  }
  EXPECT_EQ(parse_log_level("loud").error().message(),
            "\"loud\": expected trace, debug, info, warn or error");
}

TEST(Strings, QuoteEscapesWhatATerminalWouldObey) {
  EXPECT_EQ(quote("a\x1b[31m\"\xff"), "\"a\\x1b[31m\\\"\\xff\"");
  EXPECT_EQ(quote("grüß"), "\"grüß\"");
  EXPECT_EQ(quote("abcdef", 3), "\"abc\"...");
}

TEST(Strings, ParseNumberTakesNothingButTheNumber) {
  EXPECT_EQ(parse_number<uint32_t>("42"), 42U);
  for (const char* bad : {"", "+1", "-1", " 1", "1 ", "0x1", "4294967296", "1:2"}) {
    EXPECT_FALSE(parse_number<uint32_t>(bad).has_value()) << bad;
  }
}

TEST(Strings, Utf8RefusesOverlongFormsAndSurrogates) {
  EXPECT_TRUE(is_utf8("\xf0\x9f\x9a\xa2"));
  EXPECT_FALSE(is_utf8("\xc0\x80"));
  EXPECT_FALSE(is_utf8("\xed\xa0\x80"));
  EXPECT_FALSE(is_utf8("\xf4\x90\x80\x80"));
}

TEST(Strings, SplitKeepsEmptyPieces) {
  EXPECT_EQ(split("a,,b", ',').size(), 3U);
  EXPECT_EQ(split("", ',').size(), 1U);
  EXPECT_EQ(split_words("  a \t b ").size(), 2U);
}

TEST(Time, Rfc3339RoundTrips) {
  const int64_t t = 1'767'323'045'000'000'006;
  EXPECT_EQ(format_rfc3339_nano(t), "2026-01-02T03:04:05.000000006Z");
  EXPECT_EQ(parse_rfc3339("2026-01-02T03:04:05.000000006Z").value(), t);
  EXPECT_EQ(parse_rfc3339("2026-01-02T05:04:05+02:00").value(), t - 6);
  EXPECT_EQ(format_rfc3339_nano(-1), "1969-12-31T23:59:59.999999999Z");
  EXPECT_FALSE(parse_rfc3339("2026-01-02").ok());
  EXPECT_FALSE(parse_rfc3339("2026-01-02T03:04:05.Z").ok());
}

TEST(Id, IsSixtyFourHexDigitsAndFresh) {
  EXPECT_EQ(make_id().size(), 64U);
  EXPECT_NE(make_id(), make_id());
  EXPECT_TRUE(is_valid_container_id(make_id()));
}

TEST(Id, NamesThatCouldClimbAreRefused) {
  for (const char* bad : {"", ".", "..", "a/b", "a b", "a\n"}) {
    EXPECT_FALSE(is_valid_container_id(bad)) << bad;
  }
}

}  // namespace
}  // namespace fluyt
