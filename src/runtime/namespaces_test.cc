#include <gmock/gmock.h>
#include <sched.h>
#include <sys/mount.h>
#include <unistd.h>

#include <algorithm>

#include "runtime/container_test_box.h"
#include "sys/clone.h"

// The mount namespace that a container may have besides one of its own.
namespace fluyt::runtime {
namespace {

using testing::HasSubstr;
using testing::Not;

std::string host_mounts() { return *sys::read_file("/proc/self/mountinfo", 1U << 20U); }
std::string own_mount_namespace() { return *sys::read_link(sys::kCwd, "/proc/self/ns/mnt"); }

void drop_mount_namespace(oci::Spec& spec) {
  std::erase_if(spec.linux_->namespaces,
                [](auto& n) { return n.type == oci::NamespaceType::kMount; });
}

/// A process in a mount namespace of its own, in which everything is still shared with ours.
class Elsewhere {
 public:
  Elsewhere() {
    auto ready = *sys::make_pipe();
    auto child = sys::clone_process({.flags = CLONE_NEWNS, .cgroup = {}});
    if (child.ok() && !*child) {
      sys::write_all(ready.write, "x").ignore("the test fails then");
      pause();
      _exit(0);
    }
    process_ = std::move(**child);
    char byte = 0;
    EXPECT_TRUE(sys::read_some(ready.read, {&byte, 1}).ok());
  }
  Elsewhere(const Elsewhere&) = delete;
  Elsewhere& operator=(const Elsewhere&) = delete;
  ~Elsewhere() {
    process_.kill(SIGKILL).ignore("over");
    process_.wait(Deadline::after_ms(5000)).ignore("over");
  }
  std::string path() const { return cat("/proc/", process_.pid(), "/ns/mnt"); }

 private:
  sys::Process process_;
};

TEST(MountNamespace, JoinedByPathIsWhereTheContainerIs) {
  FLUYT_NEEDS_ROOT();
  const Elsewhere elsewhere;
  const std::string before = host_mounts();
  Box box;
  for (oci::Namespace& space : box.spec.linux_->namespaces) {
    if (space.type == oci::NamespaceType::kMount) space.path = elsewhere.path();
  }
  const std::string name = *sys::read_link(sys::kCwd, elsewhere.path());
  const Outcome outcome =
      box.shell("readlink /proc/self/ns/mnt; ls /; wc -l < /proc/self/mountinfo");
  EXPECT_THAT(outcome.out, HasSubstr(name)) << outcome.error << outcome.err;
  EXPECT_THAT(outcome.out, HasSubstr("bin\ndev\netc\n"));
  EXPECT_EQ(host_mounts(), before);
}

TEST(MountNamespace, OursByPathIsRefused) {
  FLUYT_NEEDS_ROOT();
  Box box;
  for (oci::Namespace& space : box.spec.linux_->namespaces) {
    if (space.type == oci::NamespaceType::kMount) space.path = "/proc/self/ns/mnt";
  }
  EXPECT_THAT(box.run({"true"}).error, HasSubstr("\"/proc/self/ns/mnt\": is the runtime's own"));
}

TEST(MountNamespace, WithoutOneTheRootIsAllThereIsAndGoesWithTheContainer) {
  FLUYT_NEEDS_ROOT();
  const std::string before = host_mounts();
  Box box;
  drop_mount_namespace(box.spec);
  box.spec.process->args = {"sh", "-c", "readlink /proc/self/ns/mnt; ls /; pwd; sleep 30"};
  Outcome outcome;
  ASSERT_TRUE(box.create(outcome)) << outcome.error;
  EXPECT_NE(box.container->root_mount, 0U);
  box.open_gate(outcome);
  oci::Process process = *box.spec.process;
  process.args = {"sh", "-c", "readlink /proc/self/ns/mnt; cat /etc/passwd; ls /; mkdir /etc/made"};
  const Outcome executed = box.exec(process);
  EXPECT_THAT(executed.out, HasSubstr(own_mount_namespace())) << executed.error << executed.err;
  EXPECT_THAT(executed.out, HasSubstr("sailor"));
  EXPECT_THAT(executed.out, HasSubstr("bin\ndev\netc\n"));
  EXPECT_TRUE(sys::exists(box.path("/rootfs/etc/made")));
  EXPECT_NE(host_mounts(), before);
  box.clean_up();
  EXPECT_EQ(host_mounts(), before);
}

TEST(MountNamespace, WithoutOneNothingIsLeftAfterAnError) {
  FLUYT_NEEDS_ROOT();
  const std::string before = host_mounts();
  Box box;
  drop_mount_namespace(box.spec);
  EXPECT_THAT(box.run({"/no/such/program"}).error, HasSubstr("process.args[0]"));
  EXPECT_EQ(host_mounts(), before);
}

TEST(MountNamespace, WithoutOneHooksAndMasksWorkToo) {
  FLUYT_NEEDS_ROOT();
  const std::string before = host_mounts();
  Box box;
  drop_mount_namespace(box.spec);
  box.spec.hooks = oci::Hooks{};
  box.spec.hooks->create_runtime = {{.path = "/bin/sh",
                                     .args = {"sh", "-c", "test -e rootfs/proc/1/status"},
                                     .env = {},
                                     .timeout = {}}};
  EXPECT_EQ(box.shell("cat /proc/kcore | wc -c").out, "0\n");
  EXPECT_EQ(host_mounts(), before);
}

TEST(UserNamespace, WithoutMappingsEveryIdIsItself) {
  FLUYT_NEEDS_ROOT();
  Box box;
  box.spec.linux_->namespaces.push_back({.type = oci::NamespaceType::kUser, .path = {}});
  const std::string ours = *sys::read_link(sys::kCwd, "/proc/self/ns/user");
  const Outcome outcome = box.shell("readlink /proc/self/ns/user; cat /proc/self/uid_map");
  EXPECT_THAT(outcome.out, HasSubstr("         0          0 4294967295")) << outcome.error;
  EXPECT_THAT(outcome.out, Not(HasSubstr(ours)));
}

}  // namespace
}  // namespace fluyt::runtime
