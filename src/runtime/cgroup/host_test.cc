#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstdlib>

#include "base/strings.h"
#include "runtime/cgroup/cgroup.h"
#include "sys/identity.h"

namespace fluyt::runtime::cgroup {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::Pair;

constexpr std::string_view kHybrid =
    "25 30 0:23 / /sys/fs/cgroup ro,nosuid shared:9 - tmpfs tmpfs ro,mode=755\n"
    "26 25 0:24 / /sys/fs/cgroup/unified rw,nosuid shared:10 - cgroup2 cgroup2 rw,nsdelegate\n"
    "27 25 0:25 / /sys/fs/cgroup/systemd rw shared:11 - cgroup cgroup rw,xattr,name=systemd\n"
    "30 25 0:28 / /sys/fs/cgroup/cpu,cpuacct rw shared:16 - cgroup cgroup rw,cpu,cpuacct\n"
    "31 25 0:29 / /sys/fs/cgroup/memory rw shared:17 - cgroup cgroup rw,memory\n"
    "32 25 0:29 / /srv/again rw shared:17 - cgroup cgroup rw,memory\n"
    "33 25 0:30 / /sys/fs/cgroup/a\\040b rw - cgroup cgroup rw,pids,release_agent=/x\n"
    "34 25 0:31 / /proc rw - proc proc rw\n";

TEST(Mounts, Hybrid) {
  const Host host = parse_mounts(kHybrid, "hugetlb misc\n").value();
  EXPECT_TRUE(host.hybrid());
  EXPECT_EQ(host.unified, "/sys/fs/cgroup/unified");
  EXPECT_THAT(host.controllers, ElementsAre("hugetlb", "misc"));
  ASSERT_EQ(host.legacy.size(), 4U);
  EXPECT_THAT(host.legacy[0].controllers, ElementsAre("name=systemd"));
  EXPECT_THAT(host.legacy[1].controllers, ElementsAre("cpu", "cpuacct"));
  EXPECT_EQ(*host.find_legacy("memory"), "/sys/fs/cgroup/memory") << "the first of two mounts";
  EXPECT_EQ(*host.find_legacy("pids"), "/sys/fs/cgroup/a b");
  EXPECT_EQ(host.find_legacy("rdma"), nullptr);
}

TEST(Mounts, NoneIsAnError) {
  const auto host = parse_mounts("34 25 0:31 / /proc rw - proc proc rw\n", "");
  ASSERT_FALSE(host.ok());
  EXPECT_EQ(host.error().code(), Code::kFailedPrecondition);
}

TEST(Mounts, BrokenLinesAreSkipped) {
  EXPECT_FALSE(parse_mounts("x\n - cgroup\n1 2 3 - cgroup2 x rw\n", "").ok());
}

TEST(Locate, AbsoluteRelativeAndEmpty) {
  const Host host{.unified = "/cg", .controllers = {}, .legacy = {}};
  EXPECT_EQ(locate(host, "/pods/a", "id")->unified, "/cg/pods/a");
  EXPECT_EQ(locate(host, "//pods/./a//", "id")->unified, "/cg/pods/a");
  EXPECT_EQ(locate(host, "mine/a", "id")->unified, "/cg/fluyt/mine/a");
  EXPECT_EQ(locate(host, "", "id")->unified, "/cg/fluyt/id");
}

TEST(Locate, EveryControllerHasADirectory) {
  const auto record = locate(parse_mounts(kHybrid, "").value(), "/a", "id").value();
  EXPECT_EQ(record.unified, "/sys/fs/cgroup/unified/a");
  EXPECT_THAT(record.legacy, ElementsAre(Pair("name=systemd", "/sys/fs/cgroup/systemd/a"),
                                         Pair("cpu", "/sys/fs/cgroup/cpu,cpuacct/a"),
                                         Pair("cpuacct", "/sys/fs/cgroup/cpu,cpuacct/a"),
                                         Pair("memory", "/sys/fs/cgroup/memory/a"),
                                         Pair("pids", "/sys/fs/cgroup/a b/a")));
}

TEST(Locate, RefusesWaysOutAndNonsense) {
  const Host host{.unified = "/cg", .controllers = {}, .legacy = {}};
  for (const std::string& bad : {std::string("/../a"), std::string("/a/../../b"), std::string(".."),
                                 std::string("/"), std::string("/./"), std::string("/a\nb"),
                                 std::string("/a\0b", 4), std::string("/a/cgroup.procs"),
                                 "/" + std::string(256, 'x'), "/" + std::string(3000, 'x')}) {
    const auto record = locate(host, bad, "id");
    ASSERT_FALSE(record.ok()) << quote(bad);
    EXPECT_EQ(record.error().code(), Code::kInvalidArgument) << quote(bad);
    EXPECT_THAT(record.error().message(), HasSubstr("linux.cgroupsPath: ")) << quote(bad);
  }
  for (const char* id : {"", "..", "a/b", "a\nb"}) EXPECT_FALSE(locate(host, "", id).ok()) << id;
}

TEST(Locate, SystemdFormIsRefusedWithoutItsDriver) {
  const Host host{.unified = "/cg", .controllers = {}, .legacy = {}};
  const auto record = locate(host, "machine.slice:fluyt:abc", "id");
  ASSERT_FALSE(record.ok());
  EXPECT_EQ(record.error().code(), Code::kInvalidArgument);
  EXPECT_THAT(record.error().message(), HasSubstr("slice:prefix:name"));
  EXPECT_TRUE(locate(host, "/with:two:colons", "id").ok());
}

TEST(Locate, ScopesLieInTheirSlices) {
  if (geteuid() != 0) GTEST_SKIP() << "another user's scopes are below that user's own systemd";
  const Host host{.unified = "/cg", .controllers = {}, .legacy = {{"/v1/memory", {"memory"}}}};
  const auto record = locate(host, "machine-a.slice:pre:abc", "id", Driver::kSystemd);
  ASSERT_TRUE(record.ok()) << record.error().message();
  EXPECT_EQ(record->unified, "/cg/machine.slice/machine-a.slice/pre-abc.scope");
  EXPECT_THAT(
      record->legacy,
      ElementsAre(Pair("memory", "/v1/memory/machine.slice/machine-a.slice/pre-abc.scope")));
  ASSERT_TRUE(record->unit);
  EXPECT_EQ(record->unit->name, "pre-abc.scope");
  EXPECT_EQ(record->unit->slice, "machine-a.slice");
  EXPECT_FALSE(locate(host, "/a/path", "id", Driver::kSystemd).ok());
}

// Of a user who became root of a user namespace, as callers without privileges do, the scope is
// their own systemd's; of a root who is one there, the system's.
TEST(Locate, AScopeInAUserNamespaceIsItsUsers) {
  const auto in_namespace = [](const char* user) {
    const pid_t pid = fork();
    if (pid == 0) {
      setenv("USER", user, 1);
      setenv("XDG_RUNTIME_DIR", "/nonexistent", 1);
      if (!sys::become_root_of_ourselves().ok()) _exit(3);
      const Host host{.unified = "/cg", .controllers = {}, .legacy = {}};
      const auto record = locate(host, "machine.slice:pre:abc", "id", Driver::kSystemd);
      if (record.ok()) _exit(record->unit && !record->unit->user ? 0 : 2);
      _exit(record.error().message().find("/nonexistent/bus") != std::string::npos ? 1 : 2);
    }
    int status = 0;
    waitpid(pid, &status, 0);
    return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
  };
  if (in_namespace("root") == 3) GTEST_SKIP() << "needs user namespaces";
  EXPECT_EQ(in_namespace("root"), 0);
  EXPECT_EQ(in_namespace("sailor"), 1);
}

TEST(DriverOf, TellsThePathFromSliceAndScope) {
  EXPECT_EQ(driver_of("/kubepods/pod1/c"), Driver::kCgroupfs);
  EXPECT_EQ(driver_of("/a:b:c/d"), Driver::kCgroupfs);
  EXPECT_EQ(driver_of("a:b"), Driver::kCgroupfs);
  EXPECT_EQ(driver_of("pods.slice:cri-fluyt:c"), Driver::kSystemd);
  EXPECT_EQ(driver_of(":runf:c"), Driver::kSystemd);
}

}  // namespace
}  // namespace fluyt::runtime::cgroup
