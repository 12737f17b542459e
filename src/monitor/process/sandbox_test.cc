#include "monitor/process/sandbox.h"

#include <gtest/gtest.h>

namespace fluyt::monitor {
namespace {

Code check(SandboxRequest request) {
  auto checked = check_sandbox(request);
  return checked.ok() ? Code::kNotFound : checked.error().code();
}
constexpr Code kTaken = Code::kNotFound;
constexpr Code kRefused = Code::kInvalidArgument;

TEST(CheckSandbox, SysctlsNeedTheirNamespace) {
  EXPECT_EQ(check({.sysctls = {{"net.ipv4.ip_forward", "1"}}}), kTaken);
  EXPECT_EQ(check({.sysctls = {{"net/ipv4/conf/eth0.100/forwarding", "1"}}}), kTaken);
  EXPECT_EQ(check({.new_network = false, .sysctls = {{"net.ipv4.ip_forward", "1"}}}), kRefused);
  EXPECT_EQ(check({.sysctls = {{"kernel.shmmax", "1"}, {"fs.mqueue.msg_max", "10"}}}), kTaken);
  EXPECT_EQ(check({.new_ipc = false, .sysctls = {{"kernel.shmmax", "1"}}}), kRefused);
}

TEST(CheckSandbox, RefusesWhatReachesTheHost) {
  for (const char* name :
       {"kernel.core_pattern", "vm.overcommit_memory", "kernel.sysrq", "fs.file-max", "net",
        "net..x", "net.ipv4/../x", "net/../kernel/core_pattern", "net/./x", "", "net.a b",
        "net.x\ny", ".net.x", "fs.mqueue./../../kernel/core_pattern"}) {
    EXPECT_EQ(check({.sysctls = {{name, "1"}}}), kRefused) << name;
  }
  EXPECT_EQ(check({.sysctls = {{"net.ipv4.ip_forward", "1\n"}}}), kRefused);
}

TEST(CheckSandbox, RefusesHostnamesThatTheKernelDoesNotTake) {
  EXPECT_EQ(check({.hostname = std::string(64, 'a')}), kTaken);
  EXPECT_EQ(check({.hostname = std::string(65, 'a')}), kRefused);
  EXPECT_EQ(check({.hostname = "a\nb"}), kRefused);
}

TEST(CheckSandbox, UserNamespacesAreWholeAndHaveTheirSysctls) {
  const sys::IdMaps users = {{{0, 100000, 65536}}, {{0, 100000, 65536}}};
  EXPECT_EQ(check({.sysctls = {{"user.max_net_namespaces", "1"}}}), kRefused);
  EXPECT_EQ(check({.sysctls = {{"user.max_net_namespaces", "1"}}, .users = users}), kTaken);
  EXPECT_EQ(check({.users = {users.uids, {}}}), kRefused);
  EXPECT_EQ(check({.users = {users.uids, {{0, 5, 0}}}}), kRefused);
  EXPECT_EQ(check({.users = {users.uids, {{0, 5, UINT32_MAX}}}}), kRefused);
}

}  // namespace
}  // namespace fluyt::monitor
