#include "runtime/checkpoint/verify.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/mount.h>
#include <sys/resource.h>

#include <cstring>
#include <functional>

#include "sys/clone.h"

namespace fluyt::runtime::checkpoint {
namespace {

using ::testing::HasSubstr;

constexpr caps::Set kNetRaw = 1ULL << 13U;
constexpr caps::Set kSysAdmin = 1ULL << 21U;

// A container without privileges, in namespaces of its own, and a process as it should be.
struct Case {
  Plan plan;
  ProcessState seen;
  ProcessState ours;
  std::map<uint64_t, uint64_t> joined;
  Case() {
    plan.namespaces.at_clone = CLONE_NEWNS | CLONE_NEWPID;
    plan.namespaces.joins.push_back({CLONE_NEWNET, "/some/net", 2});
    plan.identity.uid = 1000;
    plan.identity.gid = 100;
    plan.identity.groups = {100, 7};
    plan.identity.no_new_privileges = true;
    plan.identity.capabilities.bounding = kNetRaw;
    plan.identity.capabilities.permitted = kNetRaw;
    plan.identity.rlimits = {{.resource = RLIMIT_NOFILE, .soft = 5, .hard = 10, .name = "x"}};
    plan.seccomp = seccomp::Program{.code = {{0x06, 0, 0, 0x7fff0000}}};
    seen.pid = 42;
    seen.uids.fill(1000);
    seen.gids.fill(100);
    seen.groups = {7, 100};
    seen.capabilities = {.bounding = kNetRaw, .effective = kNetRaw, .permitted = kNetRaw};
    seen.no_new_privileges = true;
    seen.seccomp = 2;
    seen.namespaces = {{CLONE_NEWNS, 11},
                       {CLONE_NEWPID, 12},
                       {CLONE_NEWNET, 13},
                       {CLONE_NEWUTS, 4},
                       {CLONE_NEWTIME, 15}};
    seen.hard_limits = {{RLIMIT_NOFILE, 10}, {RLIMIT_CORE, 3}};
    ours.namespaces = {{CLONE_NEWNS, 1},
                       {CLONE_NEWPID, 2},
                       {CLONE_NEWNET, 3},
                       {CLONE_NEWUTS, 4},
                       {CLONE_NEWTIME, 5}};
    ours.hard_limits = {{RLIMIT_NOFILE, 1000}, {RLIMIT_CORE, 3}};
    joined = {{CLONE_NEWNET, 13}};
  }
  Result<> check() const { return check_process(plan, seen, ours, joined); }
};

TEST(CheckProcess, AcceptsWhatTheSpecificationGives) {
  const auto checked = Case().check();
  EXPECT_TRUE(checked.ok()) << checked.error().message();
}

TEST(CheckProcess, AcceptsLess) {
  Case c;
  c.seen.capabilities = {};
  c.seen.groups = {};
  c.seen.hard_limits = {{RLIMIT_NOFILE, 1}};
  c.seen.oom_score_adj = 500;
  EXPECT_TRUE(c.check().ok());
}

TEST(CheckProcess, RefusesMore) {
  const std::vector<std::pair<std::string, std::function<void(Case&)>>> cases = {
      {"capabilities.bounding", [](Case& c) { c.seen.capabilities.bounding |= kSysAdmin; }},
      {"CAP_SYS_ADMIN", [](Case& c) { c.seen.capabilities.permitted |= kSysAdmin; }},
      {"CAP_SYS_ADMIN", [](Case& c) { c.seen.capabilities.effective |= kSysAdmin; }},
      {"CAP_SYS_ADMIN", [](Case& c) { c.seen.capabilities.inheritable |= kSysAdmin; }},
      {"CAP_SYS_ADMIN", [](Case& c) { c.seen.capabilities.ambient |= kSysAdmin; }},
      {"noNewPrivileges", [](Case& c) { c.seen.no_new_privileges = false; }},
      {"seccomp", [](Case& c) { c.seen.seccomp = 0; }},
      {"user.uid", [](Case& c) { c.seen.uids[2] = 0; }},
      {"user.gid", [](Case& c) { c.seen.gids[1] = 0; }},
      {"additionalGids", [](Case& c) { c.seen.groups = {0}; }},
      {"host's mnt", [](Case& c) { c.seen.namespaces[CLONE_NEWNS] = 1; }},
      {"net namespace that is named", [](Case& c) { c.seen.namespaces[CLONE_NEWNET] = 3; }},
      {"uts namespace of its own", [](Case& c) { c.seen.namespaces[CLONE_NEWUTS] = 9; }},
      {"rlimits", [](Case& c) { c.seen.hard_limits[RLIMIT_NOFILE] = 11; }},
      {"rlimits", [](Case& c) { c.seen.hard_limits[RLIMIT_CORE] = 4; }},
      {"oomScoreAdj", [](Case& c) { c.seen.oom_score_adj = -1; }},
      {"security label", [](Case& c) {
         c.plan.identity.apparmor_profile = "strict";
         c.seen.security_label = "unconfined";
       }}};
  for (const auto& [field, change] : cases) {
    Case c;
    change(c);
    const auto checked = c.check();
    ASSERT_FALSE(checked.ok()) << field;
    EXPECT_EQ(checked.error().code(), Code::kPermissionDenied);
    EXPECT_THAT(checked.error().message(), HasSubstr(field));
  }
}

TEST(SecurityLabel, EndsAsItsModuleEndsIt) {
  using std::string_literals::operator""s;
  EXPECT_EQ(parse_security_label("strict (enforce)\n"), "strict (enforce)");
  EXPECT_EQ(parse_security_label("system_u:system_r:container_t:s0:c1,c2\0"s),
            "system_u:system_r:container_t:s0:c1,c2");
  EXPECT_EQ(parse_security_label(""), "");
}

TEST(CheckProcess, LetsIdsChangeOnlyWhereAProgramMay) {
  Case c;
  c.plan.identity.no_new_privileges = false;
  c.seen.uids.fill(0);
  EXPECT_TRUE(c.check().ok()) << "a program with the set-user-id bit";
  c.plan.identity.no_new_privileges = true;
  EXPECT_FALSE(c.check().ok());
  c.plan.identity.capabilities.permitted |= 1ULL << 7U;
  EXPECT_TRUE(c.check().ok()) << "CAP_SETUID";
}

TEST(CheckProcess, ReadsIdsAsTheUserNamespaceMapsThem) {
  Case c;
  c.plan.namespaces.uids = {{0, 100000, 65536}};
  c.plan.namespaces.gids = {{0, 200000, 65536}};
  EXPECT_FALSE(c.check().ok());
  c.seen.uids.fill(101000);
  c.seen.gids.fill(200100);
  c.seen.groups = {200007};
  EXPECT_TRUE(c.check().ok()) << c.check().error().message();
}

TEST(CheckFilters, WantsThatOfTheSpecificationAmongThem) {
  Case c;
  std::string filter(sizeof(seccomp::Instruction), '\0');
  std::memcpy(filter.data(), c.plan.seccomp->code.data(), filter.size());
  EXPECT_TRUE(check_filters(c.plan, {"other", filter}).ok());
  EXPECT_FALSE(check_filters(c.plan, {}).ok());
  EXPECT_FALSE(check_filters(c.plan, {"other"}).ok());
  filter[4] = 1;
  EXPECT_FALSE(check_filters(c.plan, {filter}).ok());
}

// A root, procfs at /proc, a bind at /data, a mask.
struct Mounts {
  Plan plan;
  Placed placed;
  std::vector<MountInfo> mounts;
  Mounts() {
    plan.root_read_only = true;
    MountPlan proc;
    proc.kind = MountKind::kProc;
    proc.type = "proc";
    proc.destination = "/proc";
    proc.options.set = MOUNT_ATTR_NOSUID;
    MountPlan data;
    data.index = 1;
    data.kind = MountKind::kBind;
    data.destination = "/data";
    data.options.set = MOUNT_ATTR_RDONLY | MOUNT_ATTR_NODEV;
    MountPlan dev;
    dev.index = 2;
    dev.kind = MountKind::kFs;
    dev.type = "devpts";
    dev.destination = "/dev/pts";
    dev.options.set = MOUNT_ATTR_NOEXEC;
    plan.mounts = {proc, data, dev};
    placed.mounts = {{0, 20}, {1, 30}, {2, 40}};
    placed.keys = {{30, mount_key(1)}, {50, kNullKey}};
    mounts = {line(10, "/", "ext4", {"ro"}),
              line(20, "/proc", "proc", {"rw", "nosuid"}),
              line(30, "/data", "ext4", {"ro", "nodev"}),
              line(40, "/dev/pts", "devpts", {"rw", "noexec"}),
              line(50, "/proc/kcore", "devtmpfs", {"rw"}),
              line(60, "/dev/console", "devpts", {"rw", "noexec"})};
  }
  static MountInfo line(uint64_t id, std::string point, std::string type,
                        std::vector<std::string> options) {
    MountInfo out;
    out.id = id;
    out.root = "/";
    out.device = type;
    out.point = std::move(point);
    out.type = std::move(type);
    out.options = std::move(options);
    return out;
  }
  Result<> check() const { return check_mounts(plan, placed, mounts, 10); }
};

TEST(CheckMounts, AcceptsThoseOfTheSpecification) {
  const auto checked = Mounts().check();
  EXPECT_TRUE(checked.ok()) << checked.error().message();
}

TEST(CheckMounts, RefusesMore) {
  const std::vector<std::pair<std::string, std::function<void(Mounts&)>>> cases = {
      {"root.readonly", [](Mounts& m) { m.mounts[0].options = {"rw"}; }},
      {"is not nosuid", [](Mounts& m) { m.mounts[1].options = {"rw"}; }},
      {"is not ro", [](Mounts& m) { m.mounts[2].options = {"rw", "nodev"}; }},
      {"is not nodev", [](Mounts& m) { m.mounts[2].options = {"ro"}; }},
      {"is of type", [](Mounts& m) { m.mounts[1].type = "tmpfs"; }},
      {"part of its file system", [](Mounts& m) { m.mounts[1].root = "/sys"; }},
      {"is not there", [](Mounts& m) { m.placed.mounts[1] = 10; }},
      {"not of the specification's",
       [](Mounts& m) { m.mounts.push_back(Mounts::line(70, "/x", "ext4", {"ro"})); }},
      {"not of the specification's",
       [](Mounts& m) { m.mounts.push_back(Mounts::line(70, "/x", "proc", {"rw", "nosuid"})); }},
      {"not of the specification's",
       [](Mounts& m) { m.mounts.push_back(Mounts::line(70, "/x", "tmpfs", {"rw"})); }},
      {"not of the specification's", [](Mounts& m) { m.mounts[5].options = {"rw"}; }}};
  for (const auto& [what, change] : cases) {
    Mounts m;
    change(m);
    const auto checked = m.check();
    ASSERT_FALSE(checked.ok()) << what;
    EXPECT_THAT(checked.error().message(), HasSubstr(what));
  }
}

TEST(CheckMounts, LetsOneThatMayMountHaveMountsOfItsOwn) {
  Mounts m;
  m.mounts.push_back(Mounts::line(70, "/x", "tmpfs", {"rw"}));
  m.plan.identity.capabilities.bounding = kSysAdmin;
  EXPECT_TRUE(m.check().ok());
  m.mounts.push_back(Mounts::line(71, "/y", "ext4", {"ro"}));
  EXPECT_FALSE(m.check().ok()) << "a part of the host's disk";
}

TEST(ParseStatus, ReadsTheKernelsText) {
  const auto read = parse_status(
      "Name:\tsh\nPid:\t42\nUid:\t1000\t1000\t1000\t1000\nGid:\t100\t100\t100\t100\n"
      "Groups:\t7 100 \nCapInh:\t0000000000000000\nCapPrm:\t0000000000002000\n"
      "CapEff:\t0000000000002000\nCapBnd:\t00000000a80425fb\nCapAmb:\t0000000000000000\n"
      "NoNewPrivs:\t1\nSeccomp:\t2\nSeccomp_filters:\t1\n");
  ASSERT_TRUE(read.ok()) << read.error().message();
  EXPECT_EQ(read->pid, 42);
  EXPECT_EQ(read->uids[3], 1000U);
  EXPECT_EQ(read->groups, (std::vector<uint32_t>{7, 100}));
  EXPECT_EQ(read->capabilities.bounding, 0xa80425fbU);
  EXPECT_TRUE(read->no_new_privileges);
  EXPECT_EQ(read->seccomp, 2);
  EXPECT_FALSE(parse_status("Name:\tsh\n").ok());
}

}  // namespace
}  // namespace fluyt::runtime::checkpoint
