#include "spec/default_seccomp.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <seccomp.h>

#include <algorithm>

#include "spec/capabilities.h"

namespace fluyt::spec {
namespace {

using testing::ElementsAre;
using testing::IsEmpty;
using Names = std::vector<std::string>;

constexpr uint64_t kAfAlg = 38;
constexpr uint64_t kAfVsock = 40;

Names defaults() { return {default_capabilities().begin(), default_capabilities().end()}; }
Names with(const std::string& capability) {
  Names names = defaults();
  names.push_back(capability);
  return names;
}

bool matches(const oci::SeccompArg& arg, uint64_t value) {
  if (arg.op == "SCMP_CMP_MASKED_EQ") return (value & arg.value) == arg.value_two;
  if (arg.op == "SCMP_CMP_EQ") return value == arg.value;
  ADD_FAILURE() << "operator " << arg.op;
  return false;
}

/// What the profile says to a call whose first argument is `first`: its rules exclude each other.
std::string verdict(const oci::Seccomp& profile, const std::string& name, uint64_t first = 0) {
  for (const auto& rule : profile.syscalls) {
    const bool named = std::find(rule.names.begin(), rule.names.end(), name) != rule.names.end();
    const bool fits = std::all_of(rule.args.begin(), rule.args.end(), [&](const auto& arg) {
      return arg.index == 0 && matches(arg, first);
    });
    if (named && fits) {
      return rule.action == "SCMP_ACT_ALLOW" ? "allow" : "errno " + std::to_string(*rule.errno_ret);
    }
  }
  return "errno " + std::to_string(*profile.default_errno_ret);
}

TEST(DefaultSeccomp, AllowsWhatProgramsNeed) {
  const auto profile = default_seccomp(defaults(), "amd64");
  for (const char* name : {"read", "openat", "execve", "mmap", "futex", "clock_gettime", "chroot",
                           "ptrace", "statx", "epoll_pwait2", "arch_prctl", "landlock_add_rule"}) {
    EXPECT_EQ(verdict(profile, name), "allow") << name;
  }
  EXPECT_GT(profile.syscalls[0].names.size(), 360U);
}

TEST(DefaultSeccomp, RefusesWhatReachesTheHost) {
  const auto profile = default_seccomp(defaults(), "amd64");
  for (const char* name : {"mount",
                           "umount2",
                           "unshare",
                           "setns",
                           "bpf",
                           "perf_event_open",
                           "keyctl",
                           "add_key",
                           "request_key",
                           "userfaultfd",
                           "io_uring_setup",
                           "io_uring_enter",
                           "kexec_load",
                           "reboot",
                           "init_module",
                           "finit_module",
                           "open_by_handle_at",
                           "settimeofday",
                           "swapon",
                           "acct",
                           "iopl",
                           "fsopen",
                           "fsconfig",
                           "move_mount",
                           "open_tree",
                           "pivot_root",
                           "nfsservctl",
                           "move_pages",
                           "migrate_pages",
                           "syslog",
                           "kcmp",
                           "pidfd_getfd",
                           "vhangup",
                           "uselib",
                           "ustat",
                           "sysfs",
                           "_sysctl",
                           "mbind",
                           "lookup_dcookie",
                           "quotactl",
                           "modify_ldtx"}) {
    EXPECT_EQ(verdict(profile, name), "errno 1") << name;
  }
}

TEST(DefaultSeccomp, ACapabilityOpensItsCalls) {
  EXPECT_EQ(verdict(default_seccomp(with("CAP_SYS_ADMIN"), "amd64"), "mount"), "allow");
  EXPECT_EQ(verdict(default_seccomp(with("CAP_SYS_ADMIN"), "amd64"), "clone3"), "allow");
  EXPECT_EQ(verdict(default_seccomp(with("CAP_SYS_TIME"), "amd64"), "clock_settime"), "allow");
  EXPECT_EQ(verdict(default_seccomp(with("CAP_SYS_TIME"), "amd64"), "mount"), "errno 1");
  EXPECT_EQ(verdict(default_seccomp(with("CAP_BPF"), "amd64"), "bpf"), "allow");
  EXPECT_EQ(verdict(default_seccomp({}, "amd64"), "chroot"), "errno 1");
}

TEST(DefaultSeccomp, CloneMakesNoNamespaces) {
  const auto profile = default_seccomp(defaults(), "amd64");
  EXPECT_EQ(verdict(profile, "clone", 0x1200011), "allow");  // fork, as glibc asks for it
  EXPECT_EQ(verdict(profile, "clone", 0x3d0f00), "allow");   // a thread
  for (const uint64_t flag :
       {0x20000U, 0x02000000U, 0x04000000U, 0x08000000U, 0x10000000U, 0x20000000U, 0x40000000U}) {
    EXPECT_EQ(verdict(profile, "clone", flag | 17U), "errno 1") << flag;
  }
  EXPECT_EQ(verdict(profile, "clone3"), "errno 38");
}

TEST(DefaultSeccomp, OnS390TheFlagsAreTheSecondArgument) {
  const auto profile = default_seccomp(defaults(), "s390x");
  const auto rule = std::find_if(profile.syscalls.begin(), profile.syscalls.end(),
                                 [](const auto& one) { return one.names == Names{"clone"}; });
  ASSERT_NE(rule, profile.syscalls.end());
  EXPECT_EQ(rule->args[0].index, 1U);
}

TEST(DefaultSeccomp, SocketsOfAllFamiliesButTwo) {
  for (const Names& capabilities : {defaults(), with("CAP_SYS_ADMIN")}) {
    const auto profile = default_seccomp(capabilities, "amd64");
    for (uint64_t family = 0; family < 48; ++family) {
      const bool refused = family == kAfAlg || family == kAfVsock;
      EXPECT_EQ(verdict(profile, "socket", family), refused ? "errno 1" : "allow") << family;
    }
    EXPECT_EQ(verdict(profile, "socket", 48), "errno 1");
  }
}

TEST(DefaultSeccomp, HigherBitsDoNotHideAFamily) {  // the kernel looks at 32 of 64
  const auto profile = default_seccomp(defaults(), "amd64");
  EXPECT_EQ(verdict(profile, "socket", (1ULL << 32U) | kAfAlg), "errno 1");
  EXPECT_EQ(verdict(profile, "socket", (0xFFFFFFFFULL << 32U) | kAfVsock), "errno 1");
  EXPECT_EQ(verdict(profile, "socket", 0xFFFFFFFFFFFFFFFFULL), "errno 1");
}

TEST(DefaultSeccomp, SocketcallMakesNoSocket) {
  const auto profile = default_seccomp(defaults(), "amd64");
  EXPECT_EQ(verdict(profile, "socketcall", 1), "errno 1");
  EXPECT_EQ(verdict(profile, "socketcall", (1ULL << 32U) | 1U), "errno 1");
  for (uint64_t call = 2; call <= 20; ++call) {
    EXPECT_EQ(verdict(profile, "socketcall", call), "allow") << call;
  }
  EXPECT_EQ(verdict(profile, "socketcall", 21), "errno 1");
}

TEST(DefaultSeccomp, PersonalitiesThatWeakenNothing) {
  const auto profile = default_seccomp(defaults(), "amd64");
  EXPECT_EQ(verdict(profile, "personality", 0), "allow");
  EXPECT_EQ(verdict(profile, "personality", 0xFFFFFFFF), "allow");
  EXPECT_EQ(verdict(profile, "personality", 0x40000), "errno 1");   // ADDR_NO_RANDOMIZE
  EXPECT_EQ(verdict(profile, "personality", 0x400000), "errno 1");  // READ_IMPLIES_EXEC
}

TEST(DefaultSeccomp, EachArchitectureHasItsOwn) {
  EXPECT_THAT(default_seccomp({}, "amd64").architectures,
              ElementsAre("SCMP_ARCH_X86_64", "SCMP_ARCH_X86", "SCMP_ARCH_X32"));
  EXPECT_THAT(default_seccomp({}, "arm64").architectures,
              ElementsAre("SCMP_ARCH_AARCH64", "SCMP_ARCH_ARM"));
  EXPECT_EQ(verdict(default_seccomp({}, "arm64"), "cacheflush"), "allow");
  EXPECT_EQ(verdict(default_seccomp({}, "amd64"), "cacheflush"), "errno 1");
  EXPECT_THAT(default_seccomp({}, "pdp11").architectures, IsEmpty());
}

TEST(DefaultSeccomp, EveryNameIsASystemCall) {
  // Younger than Debian 12's libseccomp.
  const Names young = {"cachestat",
                       "fchmodat2",
                       "futex_requeue",
                       "futex_wait",
                       "futex_wake",
                       "getxattrat",
                       "listmount",
                       "listxattrat",
                       "map_shadow_stack",
                       "mseal",
                       "removexattrat",
                       "riscv_hwprobe",
                       "set_mempolicy_home_node",
                       "setxattrat",
                       "statmount",
                       "uretprobe"};
  Names all(all_capabilities().begin(), all_capabilities().end());
  for (const char* architecture : {"amd64", "arm64", "ppc64le", "riscv64", "s390x"}) {
    for (const auto& rule : default_seccomp(all, architecture).syscalls) {
      for (const std::string& name : rule.names) {
        const bool known = seccomp_syscall_resolve_name(name.c_str()) != __NR_SCMP_ERROR ||
                           std::find(young.begin(), young.end(), name) != young.end();
        EXPECT_TRUE(known) << name;
      }
    }
  }
}

TEST(DefaultSeccomp, IsAProfileThatWeRead) {
  const auto profile = default_seccomp(defaults(), "amd64");
  EXPECT_EQ(*oci::parse_seccomp(oci::to_json(profile)), profile);
}

}  // namespace
}  // namespace fluyt::spec
