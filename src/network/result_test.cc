#include "network/result.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "network/cache.h"

namespace fluyt::network {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

TEST(PluginResult, FormsOfAllVersionsGiveTheAddressesOfOurInterface) {
  auto old_form = parse_result(
      R"({"cniVersion":"0.3.1","interfaces":[{"name":"eth0","sandbox":"/n"}],)"
      R"("ips":[{"version":"4","address":"10.1.0.5/16","gateway":"10.1.0.1","interface":0}],"dns":{}})",
      "0.3.1", "eth0");
  ASSERT_TRUE(old_form.ok());
  EXPECT_THAT(old_form->ips, ElementsAre("10.1.0.5"));
  auto bare = parse_result(R"({"ips":[{"address":"fd00::1/64"},{"address":"10.0.0.2/8"}]})",
                           "1.1.0", "eth0");
  ASSERT_TRUE(bare.ok());
  EXPECT_THAT(bare->ips, ElementsAre("fd00::1", "10.0.0.2"));
  EXPECT_THAT(bare->json, HasSubstr(R"("cniVersion":"1.1.0")"));
  EXPECT_TRUE(parse_result("{}", "1.0.0", "eth0")->ips.empty());
}

TEST(PluginResult, WrongShapesAreNamed) {
  const std::pair<const char*, const char*> cases[] = {
      {"", "not a JSON object"},
      {"null", "not a JSON object"},
      {R"({"ips":{}})", "ips is not a list"},
      {R"({"ips":[{}]})", "ips[0] has no address"},
      {R"({"ips":[{"address":"10.0.0.300/8"}]})", "ips[0]: \"10.0.0.300/8\""},
      {R"({"ips":[{"address":"10.0.0.3/33"}]})", "ips[0]: \"10.0.0.3/33\""},
      {R"({"ips":[{"address":"10.0.0.3/8","interface":2}]})", "interface: 2 is not an index"},
      {R"({"cniVersion":1})", "cniVersion is not text"},
      {R"({"interfaces":[{"name":7}],"ips":[{"address":"10.0.0.3/8","interface":0}]})",
       "wrong type"},
  };
  for (const auto& [text, expected] : cases) {
    auto result = parse_result(text, "1.0.0", "eth0");
    ASSERT_FALSE(result.ok()) << text;
    EXPECT_THAT(result.error().message(), HasSubstr(expected)) << text;
  }
}

TEST(PluginFailure, TheSpecifiedObjectIsShownInFull) {
  const Error error =
      parse_failure(1, R"({"code":11,"msg":"busy","details":"lock held"})", "noise");
  EXPECT_EQ(error.message(), R"("busy": "lock held" (code 11))");
  EXPECT_EQ(error.code(), Code::kUnavailable);
  EXPECT_EQ(parse_failure(1, "", R"({"code":7,"msg":"m"})").message(), R"("m" (code 7))");
  EXPECT_EQ(parse_failure(137, "", "").message(), "ended by signal 9, without a word");
  EXPECT_EQ(parse_failure(2, "", "a\nb").message(), "exit status 2: \"a\\x0ab\"");
}

TEST(Record, IsReadBackAsItWasWritten) {
  const Record record{.state = Record::State::kAttached,
                      .network = {.name = "pods",
                                  .version = "1.0.0",
                                  .disable_check = true,
                                  .only_inlined_plugins = false,
                                  .plugins = {{.type = "a", .json = R"({"type":"a","n":1.50})"},
                                              {.type = "b", .json = "{}", .built_in = true}},
                                  .source = "/etc/x"},
                      .args = {.container_id = "c",
                               .netns = "/n",
                               .interface = "eth0",
                               .cni_args = "A=1",
                               .capabilities_json = "{}"},
                      .result = R"({"ips":[]})"};
  auto back = decode_record(encode_record(record));
  ASSERT_TRUE(back.ok()) << back.error().message();
  EXPECT_EQ(*back, record);
  for (const char* broken :
       {"", "{}", "[]", R"({"format":2})", R"({"format":1,"attached":"yes"})"}) {
    auto bad = decode_record(broken);
    ASSERT_FALSE(bad.ok()) << broken;
    EXPECT_EQ(bad.error().code(), Code::kDataLoss);
  }
}

}  // namespace
}  // namespace fluyt::network
