#include "image/registry/hosts_toml.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace fluyt::image::registry {
namespace {

using testing::HasSubstr;

Result<HostsToml> parse(std::string_view text) {
  return parse_hosts_toml(text, "f/hosts.toml", "f");
}

TEST(HostsToml, KeepsTheOrderOfTheFile) {
  auto got = parse(R"(
server = "https://registry.example"
[host."https://z.example"]
  capabilities = ["pull"]
[host."http://127.0.0.1:5000"]
  skip_verify = true
  ca = ["a.crt", "/etc/b.crt"]
  client = [["c.crt", "c.key"]]
  override_path = true
  dial_timeout = "1m0.5s"
  [host."http://127.0.0.1:5000".header]
    x-one = "1"
    x-two = ["2", "3"]
[host."a.example/base"]
)");
  ASSERT_TRUE(got.ok()) << got.error().message();
  ASSERT_EQ(got->hosts.size(), 3U);
  EXPECT_EQ(got->hosts[0].url, "https://z.example");
  EXPECT_EQ(got->hosts[0].capabilities, (Capabilities{true, false, false}));
  const HostEntry& second = got->hosts[1];
  EXPECT_EQ(second.url, "http://127.0.0.1:5000");
  EXPECT_EQ(second.capabilities, (Capabilities{true, true, true}));
  EXPECT_EQ(second.ca, (std::vector<std::string>{"f/a.crt", "/etc/b.crt"}));
  EXPECT_EQ(second.client_cert, "f/c.crt");
  EXPECT_EQ(second.client_key, "f/c.key");
  EXPECT_EQ(second.skip_verify, true);
  EXPECT_TRUE(second.override_path);
  EXPECT_EQ(second.dial_timeout_ms, 60500);
  EXPECT_EQ(second.headers.size(), 3U);
  EXPECT_EQ(got->hosts[2].url, "https://a.example/base");
  EXPECT_EQ(got->server->url, "https://registry.example");
}

TEST(HostsToml, RootKeysBelongToTheServer) {
  auto got = parse("ca = \"x.crt\"\ncapabilities = [\"pull\", \"resolve\"]\n");
  ASSERT_TRUE(got.ok()) << got.error().message();
  EXPECT_EQ(got->server->url, "");
  EXPECT_EQ(got->server->ca, std::vector<std::string>{"f/x.crt"});
  EXPECT_FALSE(got->server->capabilities.push);
}

TEST(HostsToml, TakesWhatContainerdTakes) {
  const auto got = parse(R"([host."https://all"]
  capabilities = []
  client = [["a.crt", "a.key"], ["b.crt", "b.key"]]
[host."https://some"]
  capabilities = ["Pull", "RESOLVE"]
  client = ["a.pem", "b.pem"]
[host."https://none"]
  client = []
)");
  ASSERT_TRUE(got.ok()) << got.error().message();
  EXPECT_EQ(got->hosts[0].capabilities, (Capabilities{true, true, true}));
  EXPECT_EQ(got->hosts[0].client_cert, "f/a.crt");
  EXPECT_EQ(got->hosts[0].client_key, "f/a.key");
  EXPECT_EQ(got->hosts[1].capabilities, (Capabilities{true, true, false}));
  EXPECT_EQ(got->hosts[1].client_cert, "f/a.pem");
  EXPECT_EQ(got->hosts[1].client_key, "");
  EXPECT_EQ(got->hosts[2].client_cert, "");
}

TEST(HostsToml, ErrorsNameFileAndKey) {
  const std::pair<const char*, const char*> cases[] = {
      {"sever = \"https://x\"", "f/hosts.toml: sever: unknown key"},
      {"server = 3", "f/hosts.toml: server: expected a string"},
      {"server = \"ftp://x\"", "f/hosts.toml: server: "},
      {"server = \"https://u:p@x\"", "user or password"},
      {"[host.\"https://x\"]\nskip_verfy = true", "host.\"https://x\".skip_verfy: unknown key"},
      {"[host.\"https://x\"]\nskip_verify = \"yes\"", "skip_verify: expected true or false"},
      {"[host.\"https://x\"]\ncapabilities = [\"fly\"]", "\"fly\": expected pull, resolve"},
      {"[host.\"https://x\"]\ndial_timeout = \"5\"", "dial_timeout: \"5\": expected a duration"},
      {"[host.\"https://x\"]\nclient = [[\"a\", \"b\", \"c\"]]",
       "client: expected client certificates"},
      {"[host.\"https://x\".header]\n\"a b\" = \"1\"", "is not the name of a header"},
      {"host = 1", "host: expected tables"},
      {"a = [", "f/hosts.toml: line "},
  };
  for (const auto& [text, want] : cases) {
    auto got = parse(text);
    ASSERT_FALSE(got.ok()) << text;
    EXPECT_EQ(got.error().code(), Code::kInvalidArgument);
    EXPECT_THAT(got.error().message(), HasSubstr(want));
  }
}

TEST(HostsToml, BytesOutsideAsciiAreForComments) {
  EXPECT_TRUE(parse("  # für später\nserver = \"https://x\"\n").ok());
  auto got = parse("server = \"https://x\"\nM\xcd\x9b = 1\n");
  ASSERT_FALSE(got.ok());
  EXPECT_THAT(got.error().message(), HasSubstr("f/hosts.toml: line 2: "));
  EXPECT_FALSE(parse("[\n\n").ok());
  EXPECT_FALSE(parse("[\x03"
                     "FF")
                   .ok());
}

TEST(HostsToml, Durations) {
  EXPECT_EQ(parse_go_duration_ms("500ms").value(), 500);
  EXPECT_EQ(parse_go_duration_ms("1h").value(), 3'600'000);
  for (const char* bad : {"", "5", "s", "-1s", "1d", "1e9h", "0s", "..s", "1.2.3s"}) {
    EXPECT_FALSE(parse_go_duration_ms(bad).ok()) << bad;
  }
}

}  // namespace
}  // namespace fluyt::image::registry
