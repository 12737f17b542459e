#include "runtime/plan.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/mount.h>

#include <algorithm>

#include "base/strings.h"

namespace fluyt::runtime {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;

HostFacts plain_host() {
  HostFacts host;
  host.last_capability = 40;
  host.holding.bounding = host.holding.effective = host.holding.permitted = (1ULL << 41U) - 1;
  return host;
}

Result<Plan> plan_of(const oci::Spec& spec) {
  return make_plan({.id = "one", .bundle = "/bundle", .spec = &spec}, plain_host());
}

oci::Spec base_spec() {
  oci::Spec spec = oci::default_spec();
  spec.process->terminal = false;
  return spec;
}

std::string error_of(const oci::Spec& spec) {
  auto plan = plan_of(spec);
  return plan.ok() ? "" : plan.error().message();
}

size_t place(const Plan& plan, Step step) {
  return static_cast<size_t>(std::find(plan.steps.begin(), plan.steps.end(), step) -
                             plan.steps.begin());
}

void set_path(oci::Spec& spec, oci::NamespaceType type, const std::string& path) {
  for (oci::Namespace& space : spec.linux_->namespaces) {
    if (space.type == type) space.path = path;
  }
}

TEST(Plan, WhatTheMountApiDoesNotHaveIsAWarning) {
  oci::Spec spec = base_spec();
  const auto index = spec.mounts.size();
  spec.mounts.push_back({.destination = "/hold",
                         .type = "tmpfs",
                         .source = "tmpfs",
                         .options = {"silent", "iversion", "noiversion", "defaults"}});
  const Plan plan = *plan_of(spec);
  ASSERT_EQ(plan.warnings.size(), 2U);
  EXPECT_THAT(plan.warnings[0], HasSubstr(cat("mounts[", index, "].options: \"iversion\"")));
  EXPECT_THAT(plan.warnings[1], HasSubstr("\"noiversion\""));
}

TEST(Plan, DefaultSpecIsMadeByOneProcess) {
  const Plan plan = *plan_of(base_spec());
  EXPECT_EQ(plan.namespaces.at_clone,
            uint64_t{CLONE_NEWPID | CLONE_NEWIPC | CLONE_NEWUTS | CLONE_NEWNS});
  EXPECT_EQ(plan.namespaces.unshared, uint64_t{CLONE_NEWNET});
  EXPECT_TRUE(plan.namespaces.new_cgroup);
  EXPECT_EQ(plan.namespaces.fork, NamespacePlan::Fork::kNone);
  EXPECT_THAT(
      plan.steps,
      ElementsAre(Step::kMakeNamespaces, Step::kLoopback, Step::kOwnMounts, Step::kAttachRoot,
                  Step::kPivot, Step::kMounts, Step::kAwaitMaker, Step::kCgroupNamespace,
                  Step::kLaterMounts, Step::kDevices, Step::kDevLinks, Step::kHostName,
                  Step::kReadOnlyPaths, Step::kMaskedPaths, Step::kLetGo, Step::kKeyring,
                  Step::kRlimits, Step::kStdioOwner, Step::kWorkingDirectory, Step::kReadOnlyRoot,
                  Step::kIdentity, Step::kVerifyDirectory, Step::kProgram, Step::kSession,
                  Step::kNoNewPrivileges, Step::kCloseDescriptors));
}

TEST(Plan, DestinationsMayHaveTheRootInFront) {
  oci::Spec spec = base_spec();
  spec.root->path = "/srv/root";
  spec.mounts.push_back({.destination = "/srv/root/data", .type = "tmpfs"});
  spec.mounts.push_back({.destination = "/srv/rooted", .type = "tmpfs"});
  const auto plan = plan_of(spec);
  ASSERT_TRUE(plan.ok()) << plan.error().message();
  EXPECT_EQ((plan->mounts.end() - 2)->destination, "/data");
  EXPECT_EQ(plan->mounts.back().destination, "/srv/rooted");
  // And are looked at without it.
  spec.mounts.push_back({.destination = "/srv/root/proc/self", .type = "tmpfs"});
  EXPECT_THAT(plan_of(spec).error().message(), HasSubstr("nothing may be mounted inside /proc"));
}

TEST(Plan, TheMakerIsAwaitedBeforeAnythingIsAskedOfIt) {
  oci::Spec user = base_spec();
  user.linux_->namespaces.push_back({.type = oci::NamespaceType::kUser, .path = {}});
  user.linux_->uid_mappings = {{.container_id = 0, .host_id = 100'000, .size = 65'536}};
  user.linux_->gid_mappings = user.linux_->uid_mappings;
  EXPECT_EQ(plan_of(user)->steps.front(), Step::kAwaitMaker);
  EXPECT_NE(plan_of(user)->namespaces.at_clone & CLONE_NEWNET, 0U);

  oci::Spec shared = base_spec();
  set_path(shared, oci::NamespaceType::kPid, "/proc/1/ns/pid");
  EXPECT_EQ(plan_of(shared)->steps.front(), Step::kAwaitMaker);

  oci::Spec hooked = base_spec();
  hooked.hooks = oci::Hooks{};
  hooked.hooks->create_runtime = {{.path = "/bin/hook"}};
  const Plan plan = *plan_of(hooked);
  EXPECT_LT(place(plan, Step::kAwaitMaker), place(plan, Step::kRuntimeHooks));
}

TEST(Plan, AnOverlayRootIsMountedInsideUnlessIdsAreMapped) {
  const auto inside = [](const oci::Spec& spec, const std::optional<sys::OverlayMount>& root) {
    return make_plan({.id = "one", .bundle = "/bundle", .spec = &spec, .overlay_root = &root},
                     plain_host())
        ->makes_root_inside();
  };
  oci::Spec spec = base_spec();
  EXPECT_FALSE(inside(spec, std::nullopt));
  sys::OverlayMount root{{"/lower"}, "/upper", "/work", {}};
  EXPECT_TRUE(inside(spec, root));
  root.ids = {.uids = {{.inside = 0, .outside = 100'000, .count = 1}},
              .gids = {{.inside = 0, .outside = 100'000, .count = 1}}};
  EXPECT_FALSE(inside(spec, root));
  root.ids = {};
  set_path(spec, oci::NamespaceType::kPid, "/proc/1/ns/pid");
  EXPECT_FALSE(inside(spec, root)) << "the maker is awaited first";
}

TEST(Plan, CgroupsAreReadOnlyWithoutACgroupNamespace) {
  oci::Spec spec = base_spec();
  spec.mounts = {
      {.destination = "/sys/fs/cgroup", .type = "cgroup", .source = "cgroup", .options = {"rw"}}};
  EXPECT_EQ(plan_of(spec)->mounts[0].options.set & MOUNT_ATTR_RDONLY, 0U);
  std::erase_if(spec.linux_->namespaces, [](const oci::Namespace& space) {
    return space.type == oci::NamespaceType::kCgroup;
  });
  const MountOptions options = plan_of(spec)->mounts[0].options;
  EXPECT_NE(options.set & MOUNT_ATTR_RDONLY, 0U);
  EXPECT_EQ(options.clear & MOUNT_ATTR_RDONLY, 0U);
}

TEST(Plan, OldRootIsGoneBeforeTheImageIsTouched) {
  const Plan plan = *plan_of(base_spec());
  EXPECT_LT(place(plan, Step::kPivot), place(plan, Step::kMounts));
}

TEST(Plan, HooksThatLookForTheRootComeBeforeThePivot) {
  oci::Spec spec = base_spec();
  spec.hooks = oci::Hooks{};
  spec.hooks->create_runtime = {{.path = "/bin/hook"}};
  spec.hooks->create_container = {{.path = "/bin/hook"}};
  const Plan plan = *plan_of(spec);
  EXPECT_LT(place(plan, Step::kAttachRootAtPath), place(plan, Step::kMounts));
  EXPECT_LT(place(plan, Step::kMounts), place(plan, Step::kRuntimeHooks));
  EXPECT_LT(place(plan, Step::kRuntimeHooks), place(plan, Step::kContainerHooks));
  EXPECT_LT(place(plan, Step::kContainerHooks), place(plan, Step::kPivot));
}

TEST(Plan, SharedPidNamespaceIsEnteredLastWithNothingLeftToTake) {
  oci::Spec spec = base_spec();
  set_path(spec, oci::NamespaceType::kPid, "/proc/1/ns/pid");
  const Plan plan = *plan_of(spec);
  EXPECT_EQ(plan.namespaces.fork, NamespacePlan::Fork::kLate);
  EXPECT_EQ(plan.namespaces.at_clone, 0U);
  EXPECT_LT(place(plan, Step::kPivot), place(plan, Step::kForkLate));
  EXPECT_LT(place(plan, Step::kIdentity), place(plan, Step::kForkLate));
}

TEST(Plan, JoinedUserNamespaceComesFirstAndForksForANewPidNamespace) {
  oci::Spec spec = base_spec();
  set_path(spec, oci::NamespaceType::kNetwork, "/run/ns/net");
  spec.linux_->namespaces.push_back({.type = oci::NamespaceType::kUser, .path = "/run/ns/user"});
  const Plan plan = *plan_of(spec);
  ASSERT_EQ(plan.namespaces.joins.size(), 2U);
  EXPECT_EQ(plan.namespaces.joins[0].type, uint64_t{CLONE_NEWUSER});
  EXPECT_EQ(plan.namespaces.fork, NamespacePlan::Fork::kEarly);
  EXPECT_LT(place(plan, Step::kMakeNamespaces), place(plan, Step::kForkEarly));
}

TEST(Plan, PodNamespacesNeedNoSecondProcess) {
  oci::Spec spec = base_spec();
  set_path(spec, oci::NamespaceType::kNetwork, "/run/ns/net");
  set_path(spec, oci::NamespaceType::kIpc, "/run/ns/ipc");
  const Plan plan = *plan_of(spec);
  EXPECT_EQ(plan.namespaces.fork, NamespacePlan::Fork::kNone);
  EXPECT_EQ(plan.namespaces.at_clone, uint64_t{CLONE_NEWPID | CLONE_NEWUTS | CLONE_NEWNS});
}

TEST(Plan, SeccompComesBeforeTheIdentityOnlyWithoutNoNewPrivileges) {
  oci::Spec spec = base_spec();
  spec.linux_->seccomp =
      oci::Seccomp{.default_action = "SCMP_ACT_ALLOW", .architectures = {"SCMP_ARCH_X86_64"}};
  Plan plan = *plan_of(spec);
  EXPECT_EQ(plan.steps.back(), Step::kSeccomp);
  EXPECT_LT(place(plan, Step::kNoNewPrivileges), place(plan, Step::kSeccomp));
  spec.process->no_new_privileges = false;
  plan = *plan_of(spec);
  EXPECT_LT(place(plan, Step::kSeccompEarly), place(plan, Step::kIdentity));
  EXPECT_EQ(place(plan, Step::kSeccomp), plan.steps.size());
}

TEST(Plan, RefusesByName) {
  oci::Spec spec = base_spec();
  spec.linux_->mount_label = "system_u:object_r:container_file_t:s0";
  EXPECT_THAT(error_of(spec), HasSubstr("linux.mountLabel: \"system_u:object_r:container_file_t:s0"
                                        "\": this host has no SELinux"));
  spec = base_spec();
  spec.process->apparmor_profile = "some-profile";
  EXPECT_THAT(error_of(spec),
              HasSubstr("process.apparmorProfile: \"some-profile\": this host has no AppArmor"));
  EXPECT_EQ(plan_of(spec).error().code(), Code::kUnimplemented);
  spec = base_spec();
  spec.process->scheduler = oci::Scheduler{.policy = "SCHED_ISO"};
  EXPECT_THAT(error_of(spec), HasSubstr("process.scheduler.policy: \"SCHED_ISO\""));
}

TEST(Plan, MountLabelIsAnOptionOfWhatTakesOne) {
  oci::Spec spec = base_spec();
  spec.linux_->mount_label = "system_u:object_r:container_file_t:s0";
  HostFacts host = plain_host();
  host.selinux = true;
  auto plan = make_plan({.id = "one", .bundle = "/bundle", .spec = &spec}, host);
  ASSERT_TRUE(plan.ok()) << plan.error().message();
  for (const MountPlan& mount : plan->mounts) {
    const bool labelled =
        std::find(mount.options.data.begin(), mount.options.data.end(),
                  std::pair<std::string, std::string>("context", spec.linux_->mount_label)) !=
        mount.options.data.end();
    EXPECT_EQ(labelled, mount.kind == MountKind::kFs && mount.type != "mqueue") << mount.type;
  }
}

// Its root is the same for all who share the IPC namespace: the host's is not a container's to
// label.
TEST(Plan, MessageQueuesAreLabelledWhereTheyAreNotTheHosts) {
  oci::Spec spec = base_spec();
  spec.linux_->mount_label = "system_u:object_r:container_file_t:s0";
  spec.mounts = {{.destination = "/dev/mqueue", .type = "mqueue", .source = "mqueue"}};
  HostFacts host = plain_host();
  host.selinux = true;
  const auto label = [&] {
    const auto plan = make_plan({.id = "one", .bundle = "/bundle", .spec = &spec}, host);
    EXPECT_TRUE(plan.ok()) << plan.error().message();
    return plan.ok() ? plan->mounts.at(0).label : "none";
  };
  EXPECT_EQ(label(), spec.linux_->mount_label);
  set_path(spec, oci::NamespaceType::kIpc, "/some/ipc");
  EXPECT_EQ(label(), spec.linux_->mount_label);
  std::erase_if(spec.linux_->namespaces,
                [](const auto& one) { return one.type == oci::NamespaceType::kIpc; });
  EXPECT_EQ(label(), "");
}

TEST(Plan, NetDevicesNeedANetworkNamespaceAndComeWithIt) {
  oci::Spec spec = base_spec();
  spec.linux_->net_devices = {{"eth0", ""}, {"eth1", "wan%d"}};
  const Plan plan = *plan_of(spec);
  EXPECT_THAT(plan.net_devices,
              ElementsAre(NetDevicePlan{"eth0", "eth0"}, NetDevicePlan{"eth1", "wan%d"}));
  EXPECT_LT(place(plan, Step::kNetDevices), place(plan, Step::kAttachRoot));
  std::erase_if(spec.linux_->namespaces,
                [](auto& n) { return n.type == oci::NamespaceType::kNetwork; });
  EXPECT_THAT(error_of(spec), HasSubstr("linux.netDevices: needs a network namespace"));
}

TEST(Plan, CallersMountNamespaceIsLeftAsItIs) {
  oci::Spec spec = base_spec();
  std::erase_if(spec.linux_->namespaces,
                [](auto& n) { return n.type == oci::NamespaceType::kMount; });
  const Plan plan = *plan_of(spec);
  EXPECT_EQ(plan.namespaces.mounts, NamespacePlan::Mounts::kCallers);
  EXPECT_EQ(place(plan, Step::kOwnMounts), plan.steps.size());
  EXPECT_LT(place(plan, Step::kAttachRootAtPath), place(plan, Step::kPivot));
  spec.root->path = "/";
  EXPECT_THAT(error_of(spec), HasSubstr("linux.namespaces"));
}

TEST(Plan, BindAtSlashIsTheRootAndHidesWhatCameBefore) {
  oci::Spec spec = base_spec();
  const size_t count = spec.mounts.size();
  spec.mounts.insert(
      spec.mounts.begin() + 1,
      {.destination = "/", .type = "bind", .source = "/other", .options = {"rbind", "ro"}});
  const Plan plan = *plan_of(spec);
  ASSERT_TRUE(plan.root_bind.has_value());
  EXPECT_EQ(plan.root_bind->source, "/other");
  EXPECT_EQ(plan.mounts.size(), count - 1);
  spec.mounts[1].type = "tmpfs";
  spec.mounts[1].options = {};
  EXPECT_THAT(error_of(spec), HasSubstr("mounts[1].destination: \"/\": expected a bind"));
}

TEST(Plan, MessagesNameTheMountByItsPlaceInTheAuthorsList) {
  oci::Spec spec = base_spec();
  spec.mounts = {{.destination = "/a", .type = "tmpfs", .source = "tmpfs", .options = {}},
                 {.destination = "", .type = "tmpfs", .source = "tmpfs", .options = {}}};
  const std::vector<size_t> places = {2, 5};
  const auto refused = make_plan(
      {.id = "one", .bundle = "/bundle", .spec = &spec, .mount_places = &places}, plain_host());
  ASSERT_FALSE(refused.ok());
  EXPECT_THAT(refused.error().message(), HasSubstr("mounts[5].destination"));
  spec.mounts[1].destination = "/b";
  const auto plan = make_plan(
      {.id = "one", .bundle = "/bundle", .spec = &spec, .mount_places = &places}, plain_host());
  ASSERT_TRUE(plan.ok()) << plan.error().message();
  EXPECT_EQ(plan->mounts[0].index, 2U);
  EXPECT_EQ(plan->mounts[1].index, 5U);
}

TEST(Plan, OptionsThatABindDoesNotHaveAreRefused) {
  oci::Spec spec = base_spec();
  spec.mounts.push_back({.destination = "/data", .source = "/src", .options = {"bind", "size=3"}});
  EXPECT_THAT(error_of(spec), HasSubstr(".options: \"size\": no option of a bind"));
  spec.mounts.back().options = {"bind", "sync", "lazytime", "silent"};
  EXPECT_EQ(error_of(spec), "");
}

TEST(Plan, SchedulerIsCheckedBeforeTheKernelIsAsked) {
  oci::Spec spec = base_spec();
  auto with = [&](oci::Scheduler scheduler) {
    spec.process->scheduler = std::move(scheduler);
    return error_of(spec);
  };
  EXPECT_EQ(with({.policy = "SCHED_FIFO", .priority = 10}), "");
  EXPECT_THAT(with({.policy = "SCHED_FIFO"}), HasSubstr("scheduler.priority: 0: expected 1 to 99"));
  EXPECT_THAT(with({.policy = "SCHED_OTHER", .priority = 1}), HasSubstr("expected none with"));
  EXPECT_THAT(with({.policy = "SCHED_OTHER", .nice = 20}), HasSubstr("scheduler.nice: 20"));
  EXPECT_EQ(with({.policy = "SCHED_DEADLINE", .runtime = 10'000'000, .deadline = 20'000'000}), "");
  EXPECT_THAT(with({.policy = "SCHED_DEADLINE", .deadline = 20'000'000}),
              HasSubstr("process.scheduler.runtime: 0: expected 1024 ns or more"));
  EXPECT_THAT(with({.policy = "SCHED_DEADLINE", .runtime = 30'000, .deadline = 20'000}),
              HasSubstr("process.scheduler.deadline: 20000: expected at least runtime"));
  EXPECT_THAT(with({.policy = "SCHED_DEADLINE", .runtime = 2000, .deadline = 4000, .period = 3000}),
              HasSubstr("process.scheduler.period: 3000: expected 0, or at least deadline"));
}

TEST(Plan, NoCapabilitiesObjectIsNoCapability) {
  oci::Spec spec = base_spec();
  spec.process->capabilities.reset();
  EXPECT_EQ(plan_of(spec)->identity.capabilities, caps::Sets{});
}

TEST(Plan, JoinedMountNamespaceComesLast) {
  oci::Spec spec = base_spec();
  set_path(spec, oci::NamespaceType::kMount, "/run/ns/mnt");
  set_path(spec, oci::NamespaceType::kUts, "/run/ns/uts");
  const Plan plan = *plan_of(spec);
  EXPECT_EQ(plan.namespaces.mounts, NamespacePlan::Mounts::kJoined);
  EXPECT_EQ(plan.namespaces.joins.back().type, uint64_t{CLONE_NEWNS});
}

TEST(Plan, DeviceNumbersAreChecked) {
  for (const auto& [path, major, minor] :
       std::vector<std::tuple<std::string, int64_t, int64_t>>{{"/dev/x", -1, 0},
                                                              {"/dev/x", 5'000'000'000, 0},
                                                              {"/dev/x", 1, 1 << 20},
                                                              {"dev/x", 1, 3}}) {
    oci::Spec spec = base_spec();
    spec.linux_->devices = {{.path = path, .type = 'c', .major = major, .minor = minor}};
    EXPECT_THAT(error_of(spec), HasSubstr("linux.devices[0]")) << path << major << ":" << minor;
  }
}

TEST(Plan, NamesTheFieldThatIsWrong) {
  oci::Spec spec = base_spec();
  spec.process->args.clear();
  EXPECT_THAT(error_of(spec), HasSubstr("process.args"));
  spec = base_spec();
  spec.process->cwd = "relative";
  EXPECT_THAT(error_of(spec), HasSubstr("process.cwd: \"relative\""));
  spec = base_spec();
  spec.process->user.uid = UINT32_MAX;
  EXPECT_THAT(error_of(spec), HasSubstr("process.user.uid"));
  spec = base_spec();
  spec.process->rlimits.push_back({.type = "RLIMIT_NOFILE", .soft = 1, .hard = 1});
  EXPECT_THAT(error_of(spec), HasSubstr("process.rlimits[1].type: \"RLIMIT_NOFILE\": named twice"));
  spec = base_spec();
  spec.linux_->namespaces.push_back(spec.linux_->namespaces[0]);
  EXPECT_THAT(error_of(spec), HasSubstr("linux.namespaces[6].type: \"pid\": named twice"));
}

TEST(PlanSysctl, NamesMustAgreeWithTheFieldsForThem) {
  oci::Spec spec = base_spec();
  spec.domainname = "fleet";
  spec.linux_->sysctl = {{"kernel.domainname", "fleet"}};
  EXPECT_EQ(error_of(spec), "");
  spec.linux_->sysctl = {{"kernel.domainname", "other"}};
  EXPECT_THAT(error_of(spec), HasSubstr("linux.sysctl[\"kernel.domainname\"]: \"other\": expected "
                                        "\"fleet\", as domainname says"));
}

TEST(PlanMounts, RecursiveOptionsCountWhereNothingLiesBelow) {
  oci::Spec spec = base_spec();
  spec.mounts = {{.destination = "/x", .type = "tmpfs", .options = {"rro", "suid", "rnosuid"}},
                 {.destination = "/y", .source = "/src", .options = {"rbind", "rro"}}};
  const Plan plan = *plan_of(spec);
  EXPECT_EQ(plan.mounts[0].options.set, uint64_t{MOUNT_ATTR_RDONLY | MOUNT_ATTR_NOSUID});
  EXPECT_EQ(plan.mounts[0].options.tree_set, 0U);
  EXPECT_EQ(plan.mounts[1].options.tree_set, uint64_t{MOUNT_ATTR_RDONLY});
  spec.mounts[0].options = {"dest-nofollow"};
  EXPECT_THAT(error_of(spec), HasSubstr("mounts[0].options: src-nofollow, dest-nofollow"));
}

TEST(PlanSysctl, HostNameHasAFieldOfItsOwn) {
  oci::Spec spec = base_spec();
  spec.linux_->sysctl = {{"kernel.hostname", "deck"}};
  EXPECT_THAT(error_of(spec), HasSubstr("expected the field hostname instead"));
}

TEST(PlanSysctl, OnlyWhatANamespaceOwns) {
  oci::Spec spec = base_spec();
  spec.linux_->sysctl = {{"net.ipv4.conf.eth0/1.forwarding", "1"}, {"kernel.shm_rmid_forced", "1"}};
  const Plan plan = *plan_of(spec);
  ASSERT_EQ(plan.sysctls.size(), 2U);
  EXPECT_EQ(plan.sysctls[0].path, "kernel/shm_rmid_forced");
  EXPECT_EQ(plan.sysctls[1].path, "net/ipv4/conf/eth0.1/forwarding");
  for (const char* key :
       {"kernel.core_pattern", "vm.swappiness", "net/../kernel/core_pattern", "fs.file-max"}) {
    spec.linux_->sysctl = {{key, "1"}};
    EXPECT_THAT(error_of(spec), HasSubstr("linux.sysctl")) << key;
  }
  spec.linux_->sysctl = {{"net.ipv4.ip_forward", "1\nx"}};
  EXPECT_THAT(error_of(spec), HasSubstr("linux.sysctl"));
  // The host's own network namespace: its settings are the host's.
  std::erase_if(spec.linux_->namespaces,
                [](auto& n) { return n.type == oci::NamespaceType::kNetwork; });
  spec.linux_->sysctl = {{"net.ipv4.ip_forward", "1"}};
  EXPECT_THAT(error_of(spec), HasSubstr("no namespace of its own"));
}

TEST(PlanMounts, ProcTakesNothingButProcfs) {
  for (const auto& [destination, type, source, good] :
       std::vector<std::tuple<std::string, std::string, std::string, bool>>{
           {"/proc", "tmpfs", "tmpfs", false},
           {"/proc/../proc", "tmpfs", "tmpfs", false},
           {"proc/self/attr", "bind", "/tmp", false},
           {"/proc/uptime", "bind", "/var/lib/lxcfs/uptime", true},
           {"/proc/sys", "bind", "/proc/sys", true}}) {
    oci::Spec spec = base_spec();
    spec.mounts.push_back({.destination = destination, .type = type, .source = source});
    EXPECT_EQ(plan_of(spec).ok(), good) << destination;
  }
}

TEST(PlanMounts, SourceOfABindStartsAtTheBundle) {
  oci::Spec spec = base_spec();
  spec.mounts = {
      {.destination = "data", .type = "none", .source = "vol", .options = {"rbind", "ro"}}};
  const Plan plan = *plan_of(spec);
  ASSERT_EQ(plan.mounts.size(), 1U);
  EXPECT_EQ(plan.mounts[0].kind, MountKind::kBind);
  EXPECT_EQ(plan.mounts[0].source, "/bundle/vol");
  EXPECT_EQ(plan.mounts[0].destination, "/data");
  EXPECT_TRUE(plan.mounts[0].options.bind_tree);
}

TEST(MountOptions, LastWordCounts) {
  const MountOptions options = *parse_mount_options(
      {"ro", "rw", "nosuid", "noatime", "strictatime", "rro", "size=1m", "slave"});
  EXPECT_EQ(options.set, uint64_t{MOUNT_ATTR_NOSUID | MOUNT_ATTR_STRICTATIME});
  EXPECT_EQ(options.clear, uint64_t{MOUNT_ATTR_RDONLY | MOUNT_ATTR__ATIME});
  EXPECT_EQ(options.tree_set, uint64_t{MOUNT_ATTR_RDONLY});
  EXPECT_EQ(options.propagation, uint64_t{MS_SLAVE});
  EXPECT_FALSE(options.propagation_tree);
  ASSERT_EQ(options.data.size(), 1U);
  EXPECT_EQ(options.data[0].first, "size");
}

TEST(MountOptions, EveryKnownNameIsTaken) {
  for (const std::string& name : known_mount_options()) {
    EXPECT_TRUE(parse_mount_options({name}).ok()) << name;
  }
}

TEST(Paths, AreCleaned) {
  EXPECT_EQ(clean_path("a//b/./../c/"), "/a/c");
  EXPECT_EQ(clean_path("/../.."), "/");
}

TEST(Numbers, Lists) {
  EXPECT_THAT(*parse_number_list("0-2,7", "f"), ElementsAre(0U, 1U, 2U, 7U));
  for (const char* wrong : {"2-1", "a", "1-", "-1", "1,,2", "99999999"}) {
    EXPECT_FALSE(parse_number_list(wrong, "f").ok()) << wrong;
  }
}

TEST(MemoryPolicy, CountsNodesByMode) {
  auto planned = [](const char* mode, const char* nodes) {
    oci::Linux config;
    config.memory_policy = oci::MemoryPolicy{mode, nodes, {}};
    Plan plan;
    auto done = plan_execution(config, plan);
    return done.ok() ? std::string() : done.error().message();
  };
  EXPECT_EQ(planned("MPOL_PREFERRED", ""), "");
  EXPECT_EQ(planned("MPOL_BIND", "0"), "");
  EXPECT_EQ(planned("MPOL_LOCAL", ""), "");
  EXPECT_THAT(
      planned("MPOL_DEFAULT", "0-7"),
      testing::HasSubstr("linux.memoryPolicy.nodes: \"0-7\": MPOL_DEFAULT: memory policy mode "
                         "requires 0 nodes but got 8"));
  EXPECT_THAT(planned("MPOL_INTERLEAVE", ""),
              testing::HasSubstr("requires at least 1 node but got 0"));
  EXPECT_THAT(planned("MPOL_BIND", "0-9876543210"),
              testing::HasSubstr(
                  "invalid memory policy nodes: linux.memoryPolicy.nodes: \"0-9876543210\""));
}

}  // namespace
}  // namespace fluyt::runtime
