#include "host/check.h"

#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sched.h>
#include <sys/mount.h>
#include <unistd.h>

#include <algorithm>

#include "base/strings.h"
#include "host/configuration.h"
#include "host/probe.h"
#include "oci/runtime_spec.h"
#include "runtime/caps/caps.h"
#include "runtime/seccomp/compile.h"
#include "sys/clone.h"
#include "sys/file.h"
#include "sys/identity.h"
#include "sys/mount.h"

namespace fluyt::host {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;
using testing::StartsWith;

const Ability* find(const std::vector<Ability>& all, std::string_view name) {
  const auto found = std::ranges::find(all, name, &Ability::name);
  return found == all.end() ? nullptr : &*found;
}

// What `examine` says of `name` where `before` was done first: "yes: found".
template <class Before, class Examine>
std::string seen_after(Before before, Examine examine, const std::string& name) {
  const auto said = in_child([&]() -> Result<std::string> {
    FLUYT_TRY(before());
    std::vector<Ability> all;
    examine(Findings("group", all));
    const Ability* ability = find(all, name);
    if (ability == nullptr) return Error(Code::kNotFound, name);
    return cat(word_of(ability->has), ": ", ability->found, "|", ability->loses, "|",
               ability->remedy);
  });
  return said.ok() ? *said : "error: " + said.error().message();
}

Result<> nothing() { return {}; }

// Whoever comes behind gets EPERM or the like from these calls.
auto without(std::vector<std::string> calls, uint32_t error = ENOSYS) {
  return [=]() -> Result<> {
    oci::Seccomp profile;
    profile.default_action = "SCMP_ACT_ALLOW";
    profile.syscalls = {
        {.names = calls, .action = "SCMP_ACT_ERRNO", .errno_ret = error, .args = {}}};
    const auto program = FLUYT_TRY(runtime::seccomp::compile(profile));
    FLUYT_TRY(sys::set_no_new_privileges());
    FLUYT_TRY(runtime::seccomp::load(program));
    return {};
  };
}

#define SKIP_WITHOUT_ROOT() \
  if (::geteuid() != 0) GTEST_SKIP() << "needs root"

TEST(InChild, GivesWhatWasFoundOrTheError) {
  EXPECT_EQ(*in_child([]() -> Result<std::string> { return std::string("found"); }), "found");
  EXPECT_EQ(*in_child([]() -> Result<std::string> { return std::string(); }), "");
  const auto failed =
      in_child([]() -> Result<std::string> { return Error::from_errno(EACCES, "open(x)"); });
  ASSERT_FALSE(failed.ok());
  EXPECT_EQ(failed.error().code(), Code::kPermissionDenied);
  EXPECT_THAT(failed.error().message(), StartsWith("open(x) = EACCES"));
}

TEST(InChild, ACrashOrAnEarlyEndIsAnError) {
  const auto crashed = in_child([]() -> Result<std::string> {
    ::signal(SIGABRT, SIG_DFL);
    ::abort();
  });
  ASSERT_FALSE(crashed.ok());
  EXPECT_THAT(crashed.error().message(), HasSubstr("signal 6"));
  const auto ended = in_child([]() -> Result<std::string> { ::_exit(3); });
  ASSERT_FALSE(ended.ok());
  EXPECT_THAT(ended.error().message(), HasSubstr("ended with 3"));
}

TEST(InChild, WhatItDoesToItselfGoesWithIt) {
  const std::string before = *sys::read_link(sys::kCwd, "/proc/self/cwd");
  ASSERT_TRUE(in_child([]() -> Result<std::string> {
                FLUYT_TRY(sys::change_directory_to("/proc"));
                return sys::working_directory();
              }).ok());
  EXPECT_EQ(*sys::read_link(sys::kCwd, "/proc/self/cwd"), before);
}

TEST(Findings, WhatIsThereLosesNothing) {
  std::vector<Ability> all;
  Findings findings("files", all);
  findings.add({.name = "a", .need = Need::kPods, .loses = "x", .remedy = "y"},
               std::string("seen"));
  findings.add({.name = "b", .need = Need::kPods, .loses = "x", .remedy = "y"},
               Error(Code::kNotFound, "not seen"));
  EXPECT_EQ(all[0], (Ability{.group = "files",
                             .name = "a",
                             .need = Need::kPods,
                             .has = Has::kYes,
                             .found = "seen",
                             .loses = "",
                             .remedy = ""}));
  EXPECT_EQ(all[1], (Ability{.group = "files",
                             .name = "b",
                             .need = Need::kPods,
                             .has = Has::kNo,
                             .found = "not seen",
                             .loses = "x",
                             .remedy = "y"}));
}

TEST(Missing, IsWhatPodsNeedAndIsNotThereAtAll) {
  EXPECT_THAT(missing({{.name = "a", .need = Need::kPods, .has = Has::kYes},
                       {.name = "b", .need = Need::kPods, .has = Has::kPartly},
                       {.name = "c", .need = Need::kPods, .has = Has::kNo},
                       {.name = "d", .need = Need::kSome, .has = Has::kNo}}),
              ElementsAre("c"));
}

TEST(Processes, ACallThatIsRefusedTurnsToNo) {
  EXPECT_THAT(seen_after(nothing, examine_processes, "openat2"), StartsWith("yes: openat2"));
  EXPECT_THAT(seen_after(without({"openat2"}), examine_processes, "openat2"),
              HasSubstr("no: openat2"));
  EXPECT_THAT(seen_after(nothing, examine_processes, "clone3 and pidfds"), StartsWith("yes: "));
  EXPECT_THAT(
      seen_after(without({"clone3"}), examine_processes, "clone3 and pidfds"),
      AllOf(StartsWith("no: "), HasSubstr("ENOSYS"), HasSubstr("no process can be started")));
  EXPECT_THAT(seen_after(without({"pidfd_open"}), examine_processes, "clone3 and pidfds"),
              AllOf(StartsWith("no: "), HasSubstr("pidfd_open")));
}

TEST(Processes, NamespacesThatCannotBeMadeAreNamed) {
  SKIP_WITHOUT_ROOT();
  EXPECT_THAT(seen_after(nothing, examine_processes, "namespaces"),
              AnyOf(StartsWith("yes: mount, pid, net, ipc, uts, cgroup, time"),
                    StartsWith("partly: mount, pid, net, ipc, uts, cgroup; not time")));
  EXPECT_THAT(seen_after(without({"unshare"}, EPERM), examine_processes, "namespaces"),
              AllOf(StartsWith("no: unshare("), HasSubstr("EPERM")));
}

TEST(Processes, UserNamespacesCanBeSwitchedOff) {
  SKIP_WITHOUT_ROOT();
  ASSERT_THAT(seen_after(nothing, examine_processes, "user namespaces"), StartsWith("yes: "));
  // In a user namespace of its own, where the limit is its own too.
  const auto none = []() -> Result<> {
    FLUYT_TRY(sys::become_root_of_ourselves());
    return sys::write_file(sys::kCwd, "/proc/sys/user/max_user_namespaces", "0");
  };
  EXPECT_THAT(seen_after(none, examine_processes, "user namespaces"),
              AllOf(StartsWith("no: "), HasSubstr("hostUsers: false")));
}

TEST(Processes, WithoutRootsRightsSaysSo) {
  SKIP_WITHOUT_ROOT();
  const auto nobody = [] { return sys::set_ids(65534, 65534, std::vector<gid_t>{}); };
  EXPECT_THAT(seen_after(nobody, examine_processes, "hard limits"),
              StartsWith("no: needs root to be tried||"));
  EXPECT_THAT(seen_after(nobody, examine_processes, "privileges"),
              StartsWith("no: not root; without any capability"));
}

TEST(Processes, RootWithoutACapabilityIsPartly) {
  SKIP_WITHOUT_ROOT();
  const auto without_resource = []() -> Result<> {
    namespace caps = runtime::caps;
    const int last = FLUYT_TRY(caps::last_cap());
    caps::Sets sets = FLUYT_TRY(caps::current(last));
    const caps::Set resource = caps::Set{1}
                               << static_cast<unsigned>(*caps::find_number("CAP_SYS_RESOURCE"));
    sets.effective &= ~resource;
    sets.permitted &= ~resource;
    return caps::apply(sets);
  };
  EXPECT_THAT(seen_after(without_resource, examine_processes, "privileges"),
              AllOf(StartsWith("partly: root without "), HasSubstr("CAP_SYS_RESOURCE")));
  EXPECT_THAT(seen_after(without_resource, examine_processes, "hard limits"),
              AllOf(StartsWith("no: "), HasSubstr("EPERM")));
  EXPECT_THAT(seen_after(without_resource, examine_processes, "OOM scores"),
              AllOf(StartsWith("no: "), HasSubstr("EACCES")));
}

TEST(Files, AFileSystemThatTheKernelHasNotTurnsToNo) {
  SKIP_WITHOUT_ROOT();
  const auto folder = sys::TempDir::create();
  ASSERT_TRUE(folder.ok());
  const auto examine = [&](Findings findings) {
    examine_files({.root = folder->path() + "/not/there"}, std::move(findings));
  };
  EXPECT_THAT(seen_after(nothing, examine, "mount calls"), StartsWith("yes: "));
  EXPECT_THAT(seen_after(nothing, examine, "kernel file systems"), StartsWith("yes: proc, sysfs"));
  EXPECT_THAT(seen_after(nothing, examine, "overlayfs"), StartsWith("yes: mounted on "));
  EXPECT_THAT(seen_after(without({"fsmount"}), examine, "kernel file systems"),
              AllOf(StartsWith("no: "), HasSubstr("ENOSYS")));
  EXPECT_THAT(seen_after(without({"fsopen"}), examine, "mount calls"),
              AllOf(StartsWith("no: fsopen"), HasSubstr("ENOSYS")));
  EXPECT_THAT(seen_after(without({"mount_setattr"}), examine, "mount calls"), StartsWith("no: "));
  EXPECT_THAT(*sys::list_dir(folder->path()), IsEmpty());
}

TEST(Files, RootOnADiskWithoutAttributesTurnsToNo) {
  SKIP_WITHOUT_ROOT();
  const auto folder = sys::TempDir::create();
  ASSERT_TRUE(folder.ok());
  const auto examine = [&](Findings findings) {
    examine_files({.root = folder->path()}, std::move(findings));
  };
  const auto on = [&](std::string type, uint64_t attributes) {
    return [&folder, type, attributes]() -> Result<> {
      FLUYT_TRY(sys::unshare_namespaces(CLONE_NEWNS));
      FLUYT_TRY(sys::set_root_propagation(MS_PRIVATE, sys::Depth::kTree));
      auto context = FLUYT_TRY(sys::FsContext::open(type));
      const sys::Fd made = FLUYT_TRY(context.mount(attributes));
      return sys::attach_mount(made, FLUYT_TRY(sys::open(folder->path(), O_PATH | O_DIRECTORY)));
    };
  };
  EXPECT_THAT(seen_after(on("ramfs", 0), examine, "file system of root"),
              StartsWith("no: fsetxattr"));
  EXPECT_THAT(seen_after(on("tmpfs", MOUNT_ATTR_NOEXEC), examine, "file system of root"),
              AnyOf(StartsWith("no: it is mounted noexec"), StartsWith("no: fsetxattr")));
  EXPECT_THAT(seen_after(on("tmpfs", MOUNT_ATTR_RDONLY), examine, "overlayfs"),
              AllOf(StartsWith("no: mkdtemp"), HasSubstr("EROFS")));
}

TEST(Files, ASharedRootIsToldFromAPrivateOne) {
  SKIP_WITHOUT_ROOT();
  const auto with = [](uint64_t propagation) {
    return [propagation]() -> Result<> {
      FLUYT_TRY(sys::unshare_namespaces(CLONE_NEWNS));
      return sys::set_root_propagation(propagation, sys::Depth::kTree);
    };
  };
  const auto examine = [](Findings findings) { examine_files({}, std::move(findings)); };
  EXPECT_THAT(seen_after(with(MS_SHARED), examine, "shared mounts"), StartsWith("yes: "));
  EXPECT_THAT(seen_after(with(MS_PRIVATE), examine, "shared mounts"),
              HasSubstr("no: / is a private mount"));
}

TEST(Security, FiltersThatCannotBeLoadedTurnToNo) {
  EXPECT_THAT(seen_after(nothing, examine_security, "seccomp filters"), StartsWith("yes: "));
  EXPECT_THAT(seen_after(without({"seccomp"}, EINVAL), examine_security, "seccomp filters"),
              AllOf(StartsWith("no: "), HasSubstr("EINVAL")));
  EXPECT_THAT(seen_after(nothing, examine_security, "seccomp notification"), StartsWith("yes: "));
  EXPECT_THAT(seen_after(nothing, examine_guest, "guest threads"),
              AnyOf(StartsWith("yes: "), StartsWith("partly: ")));
  EXPECT_THAT(seen_after(without({"seccomp"}, EINVAL), examine_security, "seccomp notification"),
              StartsWith("no: "));
}

TEST(Guest, WhatItsPlatformTakesTurnsToNo) {
  EXPECT_THAT(seen_after(nothing, examine_guest, "guest memory"), StartsWith("yes: "));
  EXPECT_THAT(seen_after(without({"process_vm_readv"}), examine_guest, "guest memory"),
              AllOf(StartsWith("no: process_vm_readv"), HasSubstr("ENOSYS")));
  EXPECT_THAT(seen_after(without({"landlock_create_ruleset"}), examine_guest, "Landlock"),
              StartsWith("no: "));
}

TEST(Cgroups, WithoutACgroupFileSystemThereAreNone) {
  SKIP_WITHOUT_ROOT();
  const auto hidden = []() -> Result<> {
    FLUYT_TRY(sys::unshare_namespaces(CLONE_NEWNS));
    FLUYT_TRY(sys::set_root_propagation(MS_PRIVATE, sys::Depth::kTree));
    return sys::detach_mount_at("/sys");
  };
  const auto examine = [](Findings findings) { examine_cgroups({}, std::move(findings)); };
  EXPECT_THAT(seen_after(hidden, examine, "cgroups"),
              HasSubstr("no: cgroups: no cgroup file system"));
}

TEST(Cgroups, TheDriverThatIsConfiguredIsNeeded) {
  std::vector<Ability> all;
  examine_cgroups({.systemd_driver = true}, {"cgroups", all});
  ASSERT_NE(find(all, "systemd"), nullptr);
  EXPECT_EQ(find(all, "systemd")->need, Need::kPods);
}

class Limits : public testing::Test {
 protected:
  void set(const std::string& path, std::string_view value) {
    const std::string whole = cat(folder_->path(), "/sys/", path);
    ASSERT_TRUE(sys::make_dirs(whole.substr(0, whole.rfind('/')), 0755).ok());
    ASSERT_TRUE(sys::write_file_atomic(sys::kCwd, whole, value, 0644).ok());
  }
  std::vector<Ability> examine(size_t pods) {
    std::vector<Ability> all;
    examine_limits({.pods = pods, .proc = folder_->path()}, {"limits", all});
    return all;
  }
  Result<sys::TempDir> folder_ = sys::TempDir::create();
};

TEST_F(Limits, AreHeldAgainstTheNumberOfPods) {
  set("fs/inotify/max_user_instances", "2000\n");
  EXPECT_EQ(find(examine(300), "inotify instances")->has, Has::kYes);
  const auto many = examine(1000);
  const Ability* low = find(many, "inotify instances");
  EXPECT_EQ(low->has, Has::kPartly);
  EXPECT_EQ(low->found, "2000: low for 1000 pods");
  EXPECT_EQ(low->remedy, "sysctl -w fs.inotify.max_user_instances=4000");
}

TEST_F(Limits, OneThatCannotBeReadIsNo) {
  set("kernel/pid_max", "many\n");
  const auto all = examine(300);
  EXPECT_EQ(find(all, "process ids")->has, Has::kNo);
  EXPECT_THAT(find(all, "process ids")->found, HasSubstr("\"many\" is no number"));
  EXPECT_EQ(find(all, "threads")->has, Has::kNo);
}

TEST_F(Limits, OvercommitIsTheStrictOnesAffairAlone) {
  set("vm/overcommit_memory", "0\n");
  EXPECT_EQ(find(examine(300), "overcommit"), nullptr);
  set("vm/overcommit_memory", "2\n");
  ASSERT_NE(find(examine(300), "overcommit"), nullptr);
}

class Network : public testing::Test {
 protected:
  void configure(std::string_view plugins) {
    const std::string text =
        cat(R"({"cniVersion":"1.0.0","name":"net","plugins":[)", plugins, "]}");
    ASSERT_TRUE(
        sys::write_file_atomic(sys::kCwd, folder_->path() + "/10-net.conflist", text, 0644).ok());
  }
  std::vector<Ability> examine() {
    std::vector<Ability> all;
    examine_network({.cni_conf_dir = folder_->path(), .cni_bin_dirs = {folder_->path() + "/bin"}},
                    {"network", all});
    return all;
  }
  Result<sys::TempDir> folder_ = sys::TempDir::create();
};

constexpr std::string_view kBridge =
    R"({"type":"bridge","bridge":"br","isGateway":true,"ipam":{"type":"host-local","subnet":"10.9.0.0/24"}})";

TEST_F(Network, WithoutAConfigurationIsNoButNotNeeded) {
  const auto all = examine();
  EXPECT_EQ(find(all, "CNI network")->has, Has::kNo);
  EXPECT_EQ(find(all, "CNI network")->need, Need::kSome);
  EXPECT_EQ(find(all, "bridge and veth")->need, Need::kPods);
}

TEST_F(Network, APluginThatIsNowhereIsNamed) {
  configure(cat(kBridge, R"(,{"type":"wormhole"})"));
  auto all = examine();
  EXPECT_EQ(find(all, "CNI network")->has, Has::kNo);
  EXPECT_EQ(find(all, "CNI network")->need, Need::kPods);
  EXPECT_THAT(find(all, "CNI network")->found, HasSubstr("built in bridge; not there: wormhole"));
  ASSERT_TRUE(sys::make_dirs(folder_->path() + "/bin", 0755).ok());
  ASSERT_TRUE(
      sys::write_file_atomic(sys::kCwd, folder_->path() + "/bin/wormhole", "#!/bin/sh\n", 0755)
          .ok());
  all = examine();
  EXPECT_EQ(find(all, "CNI network")->has, Has::kYes);
  EXPECT_THAT(find(all, "CNI network")->found, HasSubstr("built in bridge; programs wormhole"));
}

TEST_F(Network, WhatTheConfigurationDoesNotUseIsNotNeeded) {
  configure(R"({"type":"wormhole"})");
  const auto all = examine();
  EXPECT_EQ(find(all, "bridge and veth")->need, Need::kSome);
  EXPECT_EQ(find(all, "nftables")->need, Need::kSome);
  configure(R"({"type":"macvlan","master":"eth0"})");
  EXPECT_EQ(find(examine(), "macvlan")->need, Need::kPods);
}

TEST_F(Network, DevicesThatCannotBeMadeTurnToNo) {
  SKIP_WITHOUT_ROOT();
  const auto examined = [](Findings findings) { examine_network({}, std::move(findings)); };
  EXPECT_THAT(seen_after(nothing, examined, "bridge and veth"), StartsWith("yes: "));
  EXPECT_THAT(seen_after(without({"sendto", "sendmsg"}, EPERM), examined, "bridge and veth"),
              StartsWith("no: "));
  EXPECT_THAT(seen_after(nothing, examined, "host ports on loopback"), StartsWith("yes: "));
  const auto read_only = []() -> Result<> {
    FLUYT_TRY(sys::unshare_namespaces(CLONE_NEWNS));
    FLUYT_TRY(sys::set_root_propagation(MS_PRIVATE, sys::Depth::kTree));
    const sys::Fd proc = FLUYT_TRY(sys::open("/proc", O_PATH | O_DIRECTORY));
    return sys::set_mount_attributes(proc, {.set = MOUNT_ATTR_RDONLY}, sys::Depth::kOne);
  };
  EXPECT_THAT(seen_after(read_only, examined, "host ports on loopback"),
              AllOf(StartsWith("no: "), HasSubstr("EROFS")));
}

TEST(Configuration, IsReadFromWhatFluytdPrints) {
  const Options options = options_from_dump(
      "# read: /etc/fluyt/fluytd.toml\n"
      "root = \"/data/fl\\\"uyt\"  # /etc/fluyt/fluytd.toml:1\n"
      "log_level = \"info\"  # default\n"
      "\n[cgroup]\n"
      "driver = \"systemd\"  # default\n"
      "\n[cni]\n"
      "conf_dir = \"/cni\"  # default\n"
      "bin_dirs = [\"/a\", \"/b\"]  # default\n"
      "\n[network]\n"
      "builtin = false  # default\n"
      "\n[image]\n"
      "layer_form = \"erofs\"  # default\n"
      "root_driver = \"overlay\"  # default\n"
      "\n[runtime.handlers.runc]  # default\n"
      "root = \"/run/runc\"  # default\n");
  EXPECT_EQ(options.root, "/data/fl\"uyt");
  EXPECT_EQ(options.cni_conf_dir, "/cni");
  EXPECT_THAT(options.cni_bin_dirs, ElementsAre("/a", "/b"));
  EXPECT_FALSE(options.network_builtin);
  EXPECT_TRUE(options.systemd_driver);
  EXPECT_TRUE(options.erofs_layers);
  EXPECT_FALSE(options.copied_roots);
}

TEST(Configuration, OneThatFluytdRefusesIsNo) {
  const auto folder = sys::TempDir::create();
  ASSERT_TRUE(folder.ok());
  const std::string program = folder->path() + "/fluytd";
  ASSERT_TRUE(sys::write_file_atomic(sys::kCwd, program,
                                     "#!/bin/sh\necho 'x.toml:1: root: wrong' >&2\n"
                                     "echo second >&2\nexit 1\n",
                                     0755)
                  .ok());
  ASSERT_EQ(find_fluytd({"/nowhere", folder->path()}), program);
  const Configuration refused = read_configuration(program, "");
  EXPECT_EQ(refused.ability.has, Has::kNo);
  EXPECT_EQ(refused.ability.found, "x.toml:1: root: wrong; and 1 more");
  ASSERT_TRUE(
      sys::write_file_atomic(sys::kCwd, program,
                             "#!/bin/sh\necho \"# read: $4\"; echo 'root = \"/x\"  # here'\n", 0755)
          .ok());
  const Configuration read = read_configuration(program, "/f.toml");
  EXPECT_EQ(read.ability.has, Has::kYes);
  EXPECT_EQ(read.ability.found, "/f.toml");
  EXPECT_EQ(read.options.root, "/x");
  EXPECT_EQ(find_fluytd({"/nowhere"}), "");
}

}  // namespace
}  // namespace fluyt::host
