#include "spec/sysctls.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace fluyt::spec {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;
using testing::Pair;
using Map = std::map<std::string, std::string>;

constexpr OwnNamespaces kPod{.network = true, .ipc = true};

std::string why(const Map& asked, const OwnNamespaces& own = kPod) {
  const auto result = sandbox_sysctls(asked, own);
  return result.ok() ? "taken" : result.error().message();
}

TEST(Sysctls, ANetworkOfItsOwnHasPortsAndPingForEverybody) {
  EXPECT_THAT(*sandbox_sysctls({}, kPod),
              ElementsAre(Pair("net.ipv4.ip_unprivileged_port_start", "0"),
                          Pair("net.ipv4.ping_group_range", "0 2147483647")));
  EXPECT_THAT(*sandbox_sysctls({}, {.network = true, .user = true}),
              ElementsAre(Pair("net.ipv4.ip_unprivileged_port_start", "0")));
  EXPECT_THAT(*sandbox_sysctls({}, {.ipc = true}), IsEmpty());
}

TEST(Sysctls, WhatIsAskedForWinsOverTheDefault) {
  const auto result = sandbox_sysctls(
      {{"net.ipv4.ip_unprivileged_port_start", "1024"}, {"net/ipv4/ping_group_range", "1 0"}},
      kPod);
  ASSERT_TRUE(result.ok()) << result.error().message();
  EXPECT_THAT(*result, ElementsAre(Pair("net.ipv4.ip_unprivileged_port_start", "1024"),
                                   Pair("net.ipv4.ping_group_range", "1 0")));
}

TEST(Sysctls, BothSpellingsNameTheSame) {
  const auto result = sandbox_sysctls({{"net/ipv4/conf/eth0.100/rp_filter", "1"}}, kPod);
  ASSERT_TRUE(result.ok()) << result.error().message();
  EXPECT_TRUE(result->contains("net.ipv4.conf.eth0/100.rp_filter"));
  EXPECT_THAT(why({{"net/core/somaxconn", "1"}, {"net.core.somaxconn", "2"}}),
              HasSubstr("stands twice"));
}

TEST(Sysctls, EachNeedsItsOwnNamespace) {  // CVE-2022-0532
  EXPECT_EQ(why({{"kernel.shm_rmid_forced", "1"}}), "taken");
  EXPECT_EQ(why({{"kernel.sem", "250 32000 100 128"}}), "taken");
  EXPECT_EQ(why({{"fs.mqueue.msg_max", "100"}}), "taken");
  EXPECT_THAT(why({{"kernel.shm_rmid_forced", "1"}}, {.network = true}),
              HasSubstr("IPC namespace"));
  EXPECT_THAT(why({{"net.core.somaxconn", "1"}}, {.ipc = true}), HasSubstr("network namespace"));
  EXPECT_THAT(why({{"user.max_user_namespaces", "1"}}), HasSubstr("user namespace"));
}

TEST(Sysctls, TheHostsOwnAreRefused) {
  for (const char* name :
       {"kernel.core_pattern", "kernel.shm_rmid_forcedx", "vm.swappiness", "kernel.hostname",
        "fs.file-max", "networks.x", "kernel.shmmax.x", "kernel/core_pattern"}) {
    EXPECT_THAT(why({{name, "1"}}), HasSubstr("is the host's")) << name;
  }
}

TEST(Sysctls, ValuesThatCouldBeReadAsMoreAreRefused) {  // CVE-2022-0811
  for (const char* value : {"1+kernel.core_pattern=|/x", "1=2", "a+b", "1\n2", "", "1\t2"}) {
    EXPECT_THAT(why({{"kernel.shm_rmid_forced", value}}), HasSubstr("expected a value")) << value;
  }
}

TEST(Sysctls, NamesCannotLeaveTheirFolder) {
  for (const char* name :
       {"", ".", "net..x", "net.../x", "net/../kernel/core_pattern", "/net/x", "net.x/", "net./x",
        "net/.x", "net.x\n", "net.x=y", "net x", "net.", "net.ipv4/../../kernel.x", "net.\xff"}) {
    EXPECT_THAT(why({{name, "1"}}), HasSubstr("expected a name such as")) << name;
  }
}

}  // namespace
}  // namespace fluyt::spec
