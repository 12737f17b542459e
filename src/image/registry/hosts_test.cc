#include "image/registry/hosts.h"

#include <gtest/gtest.h>

#include "image/registry/options.h"
#include "sys/file.h"

namespace fluyt::image::registry {
namespace {

TEST(Hosts, WithoutConfigurationTheRegistryItself) {
  auto hub = HostsFolder("").endpoints_for("docker.io").value();
  ASSERT_EQ(hub.size(), 1U);
  EXPECT_EQ(hub[0].base.text(), "https://registry-1.docker.io/v2");
  EXPECT_FALSE(hub[0].is_mirror);
  EXPECT_FALSE(hub[0].try_plain_http);
  EXPECT_FALSE(hub[0].tls.skip_verify);
}

TEST(Hosts, LoopbackRegistriesMayBePlain) {
  for (const char* name :
       {"localhost", "localhost:5000", "127.0.0.1:5000", "127.1.2.3", "[::1]:5000"}) {
    auto some = HostsFolder("").endpoints_for(name);
    ASSERT_TRUE(some.ok()) << name << some.error().message();
    EXPECT_TRUE((*some)[0].try_plain_http) << name;
  }
  for (const char* name : {"localhost.example:5000", "128.0.0.1:5000", "[::2]:5000"}) {
    EXPECT_FALSE(HostsFolder("").endpoints_for(name).value()[0].try_plain_http) << name;
  }
}

TEST(Hosts, MirrorsComeFirstAndGetTheirPath) {
  const auto file = parse_hosts_toml(R"(
[host."https://m.example/proxy/"]
[host."http://n.example/whole"]
override_path = true
)",
                                     "f", "d")
                        .value();
  auto plan = plan_endpoints(file, "docker.io").value();
  ASSERT_EQ(plan.size(), 3U);
  EXPECT_EQ(plan[0].base.text(), "https://m.example/proxy/v2");
  EXPECT_TRUE(plan[0].is_mirror);
  EXPECT_EQ(plan[1].base.text(), "http://n.example/whole");
  EXPECT_EQ(plan[2].base.text(), "https://registry-1.docker.io/v2");
  EXPECT_FALSE(plan[2].is_mirror);
}

TEST(Hosts, ACaMeansThatItIsChecked) {
  const auto file = parse_hosts_toml("ca = \"x.crt\"", "f", "d").value();
  auto plan = plan_endpoints(file, "127.0.0.1:5000").value();
  EXPECT_FALSE(plan[0].tls.skip_verify);
  EXPECT_FALSE(plan[0].try_plain_http);
}

TEST(Hosts, AnEmptyFileLeavesDockersFilesInForce) {
  const sys::TempDir dir = sys::TempDir::create().value();
  const std::string folder = dir.path() + "/a.example";
  ASSERT_TRUE(sys::make_dirs(folder, 0700).ok());
  for (const char* name : {"/hosts.toml", "/ca.crt"})
    ASSERT_TRUE(sys::write_file_atomic(sys::kCwd, folder + name, "", 0600).ok());
  const auto plan = HostsFolder(dir.path()).endpoints_for("a.example").value();
  ASSERT_EQ(plan.size(), 1U);
  EXPECT_EQ(plan[0].tls.ca_files, std::vector{folder + "/ca.crt"});
}

TEST(Hosts, WhatIsNotCheckedOnThisMachineIsCheckedElsewhere) {
  const auto implied = HostsFolder("").endpoints_for("localhost:5000").value()[0].tls;
  EXPECT_TRUE(implied.skip_verify);
  EXPECT_FALSE(implied.elsewhere(TlsOptions::Identity::kShow).skip_verify);
  const auto file = parse_hosts_toml(R"(skip_verify = true
ca = "ca.pem"
client = [["c.pem", "c.key"]]
)",
                                     "f", "d")
                        .value();
  for (const char* registry : {"a.example", "localhost:5000"}) {
    const TlsOptions asked = plan_endpoints(file, registry).value()[0].tls;
    const TlsOptions shown = asked.elsewhere(TlsOptions::Identity::kShow);
    EXPECT_TRUE(shown.skip_verify) << registry;
    EXPECT_EQ(shown.ca_files, asked.ca_files);
    EXPECT_EQ(shown.client_cert, "d/c.pem");
    EXPECT_EQ(asked.elsewhere(TlsOptions::Identity::kHide).client_cert, "");
  }
}

// resolv.conf(5): after 5 s the next name server is asked, and each of them twice.
TEST(Hosts, ANameServerThatIsDownLeavesTimeForTheNext) {
  EXPECT_GE(HttpTimeouts{}.connect_ms, 4 * 5'000);
}

TEST(Hosts, NamesThatAreNoHostsAreRefused) {
  for (const char* bad : {"", "..", "../x", "a/b", ".hidden"}) {
    EXPECT_FALSE(HostsFolder("/tmp").endpoints_for(bad).ok()) << bad;
  }
}

}  // namespace
}  // namespace fluyt::image::registry
