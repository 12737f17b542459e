#include "runtime/checkpoint/criu_message.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace fluyt::runtime::checkpoint {
namespace {

using ::testing::HasSubstr;
using ::testing::StartsWith;

std::string operator""_b(const char* text, size_t size) { return {text, size}; }

// The bytes are what protoc --encode=criu_req makes of the same text.
TEST(CriuMessage, EncodesAVersionQuestionThatKeepsTheConnection) {
  EXPECT_EQ(encode_question(RequestType::kVersion), "\x08\x0a\x20\x01"_b);
  EXPECT_EQ(encode_question(RequestType::kFeatureCheck),
            "\x08\x09\x20\x01\x2a\x04\x08\x01\x10\x01"_b);
}

TEST(CriuMessage, EncodesAnAnswerToANotification) {
  EXPECT_EQ(encode_notified(true), "\x08\x06\x18\x01"_b);
  EXPECT_EQ(encode_notified(false), "\x08\x06\x18\x00"_b);
}

TEST(CriuMessage, EncodesOptionsByTheirNumbers) {
  CriuOptions options;
  options.images_fd = 5;
  options.pid = 300;
  options.leave_running = true;
  options.external_mounts = {{"/a", "mount-0"}};
  options.inherited = {{"pipe:[7]", 1}};
  const std::string bytes = encode_request(RequestType::kDump, options);
  EXPECT_THAT(bytes, StartsWith("\x08\x01\x12"_b));
  EXPECT_THAT(bytes, HasSubstr("\x08\x05\x10\xac\x02\x18\x01\x48\x04"_b));
  EXPECT_THAT(bytes, HasSubstr("\xba\x01\x0d\x0a\x02/a\x12\x07mount-0"_b));
  EXPECT_THAT(bytes, HasSubstr("\xda\x01\x0c\x0a\x08pipe:[7]\x10\x01"_b));
  EXPECT_THAT(bytes, HasSubstr("\x90\x02\x00"_b)) << "the cgroup mode, also where it is 0";
}

TEST(CriuMessage, ReadsWhatCriuAnswers) {
  auto restored = parse_response("\x08\x02\x10\x01\x22\x03\x08\xac\x02"_b);
  ASSERT_TRUE(restored.ok());
  EXPECT_TRUE(restored->success);
  EXPECT_EQ(restored->type, 2U);
  EXPECT_EQ(restored->restored_pid, 300);
  auto notified = parse_response("\x08\x06\x10\x01\x2a\x0c\x0a\x0apre-resume"_b);
  ASSERT_TRUE(notified.ok());
  EXPECT_EQ(notified->script, "pre-resume");
  auto failed = parse_response("\x08\x01\x10\x00\x38\x34\x4a\x02no"_b);
  ASSERT_TRUE(failed.ok());
  EXPECT_FALSE(failed->success);
  EXPECT_EQ(failed->error_number, 52);
  EXPECT_EQ(failed->error_message, "no");
  auto version = parse_response("\x08\x0a\x10\x01\x52\x06\x08\x04\x10\x02\x20\x01"_b);
  ASSERT_TRUE(version.ok());
  EXPECT_EQ(version->major * 10000 + version->minor * 100 + version->sublevel, 40201);
}

TEST(CriuMessage, SkipsFieldsOfLaterVersions) {
  const auto read = parse_response(
      "\x08\x02\x10\x01\xfa\x07\x03new\x81\x08"
      "12345678\x85\x08"
      "1234"_b);
  ASSERT_TRUE(read.ok());
  EXPECT_TRUE(read->success);
}

TEST(CriuMessage, RefusesBytesThatAreNoMessage) {
  for (const std::string& bytes :
       {"\x08"_b, "\x22\x05\x08"_b, "\x0b"_b, "\x08\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01"_b,
        "\x12\xff\xff\xff\xff\x0f"_b}) {
    EXPECT_EQ(parse_response(bytes).error().code(), Code::kDataLoss);
  }
}

}  // namespace
}  // namespace fluyt::runtime::checkpoint
