#include "cmd/runtime/packed/packed.h"

#include <gtest/gtest.h>

namespace fluyt::commands {
namespace {

Packed full() {
  Packed packed;
  packed.id = "box";
  packed.pid = 4711;
  packed.start_time = 1ULL << 40U;
  packed.boot_id = "a7728314";
  packed.bundle = "/run/bundle";
  packed.annotations = {{"org.a", "1"}, {"org.b", ""}};
  packed.no_new_keyring = true;
  packed.cgroup.unified = "/sys/fs/cgroup/unified/box";
  packed.cgroup.legacy = {{"cpu", "/sys/fs/cgroup/cpu/box"}, {"pids", "/sys/fs/cgroup/pids/box"}};
  packed.cgroup.unit = {.name = "runf-box.scope", .slice = "system.slice", .user = true};
  oci::Spec spec = oci::default_spec();
  packed.process = spec.process;
  packed.process->user.umask = 027;
  packed.process->user.additional_gids = {1, 2};
  packed.process->scheduler = oci::Scheduler{.policy = "SCHED_BATCH", .nice = 3};
  packed.process->io_priority = oci::IoPriority{.io_class = "IOPRIO_CLASS_BE", .priority = 4};
  packed.process->exec_cpu_affinity = oci::ExecCpuAffinity{.initial = "0", .final = "0-1"};
  packed.process->oom_score_adj = -5;
  packed.linux_.emplace();
  packed.linux_->namespaces = spec.linux_->namespaces;
  packed.linux_->namespaces.front().path = "/proc/1/ns/pid";
  packed.linux_->intel_rdt = oci::IntelRdt{.clos_id = "c", .schemata = {"L3:0=f"}};
  packed.linux_->memory_policy = oci::MemoryPolicy{.mode = "MPOL_BIND", .nodes = "0"};
  packed.linux_->personality = oci::Personality{.domain = "LINUX32", .flags = {}};
  oci::Seccomp& seccomp = packed.linux_->seccomp.emplace();
  seccomp.default_action = "SCMP_ACT_ERRNO";
  seccomp.default_errno_ret = 38;
  seccomp.flags.emplace();
  seccomp.syscalls = {{.names = {"read", "write"},
                       .action = "SCMP_ACT_ALLOW",
                       .errno_ret = {},
                       .args = {{.index = 1, .value = 2, .value_two = 3, .op = "SCMP_CMP_EQ"}}}};
  return packed;
}

void expect_same(const Packed& one, const Packed& other) {
  EXPECT_EQ(one.id, other.id);
  EXPECT_EQ(one.pid, other.pid);
  EXPECT_EQ(one.start_time, other.start_time);
  EXPECT_EQ(one.boot_id, other.boot_id);
  EXPECT_EQ(one.bundle, other.bundle);
  EXPECT_EQ(one.annotations, other.annotations);
  EXPECT_EQ(one.no_new_keyring, other.no_new_keyring);
  EXPECT_EQ(one.cgroup, other.cgroup);
  EXPECT_EQ(one.process, other.process);
  EXPECT_EQ(one.linux_, other.linux_);
}

TEST(Packed, ComesBackAsItWas) {
  const auto back = unpack(pack(full(), "stamp"), "stamp");
  ASSERT_TRUE(back);
  expect_same(*back, full());
  const auto empty = unpack(pack({}, ""), "");
  ASSERT_TRUE(empty);
  expect_same(*empty, {});
}

TEST(Packed, OfOtherFilesIsNone) { EXPECT_FALSE(unpack(pack(full(), "old"), "new")); }

TEST(Packed, CutShortOrLongerIsNone) {
  const std::string text = pack(full(), "stamp");
  for (size_t size = 0; size < text.size(); ++size)
    EXPECT_FALSE(unpack(text.substr(0, size), "stamp")) << size;
  EXPECT_FALSE(unpack(text + "x", "stamp"));
}

TEST(Packed, AnyBytesAreTakenWithoutHarm) {
  const std::string text = pack(full(), "stamp");
  for (size_t at = 0; at < text.size(); ++at) {
    for (const char flipped : {'\x00', '\x7f', '\xff'}) {
      std::string wrong = text;
      wrong[at] = flipped;
      unpack(wrong, "stamp");  // must end, and read nothing but its text (sanitizers watch)
    }
  }
}

}  // namespace
}  // namespace fluyt::commands
