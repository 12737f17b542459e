#include "spec/container_spec.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstdlib>
#include <fstream>
#include <functional>
#include <sstream>

#include "base/strings.h"
#include "spec/default_seccomp.h"

namespace fluyt::spec {
namespace {

using testing::Contains;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;
using namespace std::string_literals;
using testing::Not;

/// Compares with the file; FLUYT_REWRITE_GOLDEN=1 in the environment writes it instead.
void expect_golden(const std::string& name, const oci::Spec& spec) {
  const std::string path = cat(FLUYT_TESTDATA "/", name);
  const std::string text = oci::to_pretty_json(spec) + "\n";
  if (std::getenv("FLUYT_REWRITE_GOLDEN") != nullptr) {
    std::ofstream(path) << text;
  }
  std::ifstream file(path);
  EXPECT_TRUE(file.good()) << path;
  std::stringstream recorded;
  recorded << file.rdbuf();
  EXPECT_EQ(text, recorded.str());
}

/// A request, and what it meets.
struct Given {
  Container container;
  Sandbox sandbox;
  oci::ImageConfig image;
  Host host;
};

Given ordinary() {
  Given given;
  given.host.platform = {.os = "linux", .architecture = "amd64"};
  given.image.config.entrypoint = {"/entry"};
  given.image.config.cmd = {"image-cmd"};
  given.image.config.env = {"PATH=/image/bin", "FROM=image"};
  given.sandbox = {.hostname = "pod-a",
                   .resolv_conf = "/run/s/resolv.conf",
                   .hosts = "/run/s/hosts",
                   .hostname_file = "/run/s/hostname",
                   .shm = "/run/s/shm",
                   .cgroup_parent = "/kubepods/pod-a"};
  Container& container = given.container;
  container.id = "c0ffee";
  container.namespaces.network = NamespaceSource::join("/run/s/net");
  container.namespaces.ipc = NamespaceSource::join("/run/s/ipc");
  container.namespaces.uts = NamespaceSource::join("/run/s/uts");
  container.user_files.passwd = "root:x:0:0::/root:/bin/sh\napp:x:1000:1001::/home/app:/bin/sh\n";
  container.user_files.group = "wheel:x:10:app\n";
  return given;
}

SelinuxLabels policy_labels() {
  return {{"system_u", "system_r", "container_t", "s0"},
          {"system_u", "object_r", "container_file_t", "s0"}};
}

Result<oci::Spec> make(const Given& given) {
  return container_spec(given.container, given.sandbox, given.image, given.host);
}
oci::Spec made(const Given& given) {
  auto spec = make(given);
  EXPECT_TRUE(spec.ok()) << spec.error().message();
  return spec.ok() ? std::move(spec).value() : oci::Spec{};
}
oci::Spec made_with(const std::function<void(Given&)>& change) {
  Given given = ordinary();
  change(given);
  return made(given);
}
std::string why(const std::function<void(Given&)>& change) {
  Given given = ordinary();
  change(given);
  const auto spec = make(given);
  return spec.ok() ? "taken" : spec.error().message();
}

const oci::Mount* find_mount(const oci::Spec& spec, std::string_view destination) {
  for (const oci::Mount& mount : spec.mounts) {
    if (mount.destination == destination) return &mount;
  }
  return nullptr;
}

TEST(ContainerSpec, Ordinary) { expect_golden("ordinary.json", made(ordinary())); }

TEST(ContainerSpec, RuntimeDefaultSeccomp) {
  const auto spec = made_with([](Given& given) {
    given.container.security.seccomp = SeccompProfile{.type = ProfileType::kRuntimeDefault};
  });
  expect_golden("runtime_default_seccomp.json", spec);
}

TEST(ContainerSpec, Privileged) {
  expect_golden("privileged.json", made_with([](Given& given) {
                  given.sandbox.privileged = true;
                  Container& container = given.container;
                  container.security.privileged = true;
                  container.security.seccomp = SeccompProfile{};
                  container.security.apparmor = ApparmorProfile{};
                  container.security.masked_paths = {{"/proc/kcore"}};
                  container.security.drop_capabilities = {"ALL"};
                  container.host_devices = {
                      {.container_path = "/dev/sda", .type = 'b', .major = 8, .minor = 0},
                      {.container_path = "/dev/fuse", .type = 'c', .major = 10, .minor = 229}};
                  container.devices = {{.container_path = "/dev/fuse",
                                        .type = 'c',
                                        .major = 10,
                                        .minor = 229,
                                        .file_mode = 0600}};
                  container.namespaces.pid = NamespaceSource::host();
                  container.namespaces.network = NamespaceSource::host();
                  container.namespaces.uts = NamespaceSource::host();
                  given.host.apparmor = true;
                  given.host.apparmor_default = "fluyt-default";
                }));
}

void ask_for_everything(Given& given) {
  Container& container = given.container;
  container.command = {"/bin/app"};
  container.args = {"--flag", "a b"};
  container.working_dir = "/work";
  container.envs = {{"FROM", "container"}, {"EMPTY", ""}, {"TWICE", "1"}, {"TWICE", "2"}};
  container.tty = true;
  container.mounts = {{.container_path = "/data//deep/./er", .host_path = "/srv/b"},
                      {.container_path = "/data", .host_path = "/srv/a", .readonly = true},
                      {.container_path = "/etc/hosts", .host_path = "/var/lib/kubelet/hosts"},
                      {.container_path = "/up",
                       .host_path = "/srv/up",
                       .propagation = Propagation::kHostToContainer},
                      {.container_path = "/frozen",
                       .host_path = "/srv/frozen",
                       .readonly = true,
                       .recursive_readonly = true},
                      {.container_path = "/mapped",
                       .host_path = "/srv/mapped",
                       .uid_mappings = {{0, 1000, 1}},
                       .gid_mappings = {{0, 1000, 1}}}};
  container.devices = {{.container_path = "/dev/kvm",
                        .type = 'c',
                        .major = 10,
                        .minor = 232,
                        .file_mode = 0660,
                        .gid = 36,
                        .permissions = "rw"}};
  container.namespaces.pid = NamespaceSource::join("/proc/77/ns/pid");
  container.namespaces.user = {};
  container.namespaces.uid_mappings = {{0, 100000, 65536}};
  container.namespaces.gid_mappings = {{0, 100000, 65536}};
  container.user = {.run_as_user = 1000, .supplemental_groups = {2000}};
  container.resources = {.cpu_period = 100000,
                         .cpu_quota = 50000,
                         .cpu_shares = 512,
                         .memory_limit_bytes = 64 << 20,
                         .oom_score_adj = 900,
                         .pids_limit = 100,
                         .cpuset_cpus = "0-1",
                         .cpuset_mems = "0",
                         .hugepage_limits = {{"2MB", 0}},
                         .unified = {{"memory.high", "60000000"}}};
  container.rlimits = {{.type = "RLIMIT_NOFILE", .soft = 1024, .hard = 4096}};
  container.annotations = {{"io.example/a", "b"}};
  Security& security = container.security;
  security.readonly_rootfs = true;
  security.no_new_privs = true;
  security.add_capabilities = {"net_admin"};
  security.drop_capabilities = {"CAP_MKNOD"};
  security.add_ambient_capabilities = {"NET_BIND_SERVICE"};
  security.masked_paths = {{"/proc/kcore"}};
  security.readonly_paths.emplace();
  security.seccomp = SeccompProfile{.type = ProfileType::kLocalhost,
                                    .localhost = oci::Seccomp{.default_action = "SCMP_ACT_LOG"}};
  security.apparmor = ApparmorProfile{.type = ProfileType::kLocalhost, .localhost = "strict"};
  security.selinux = {.user = {}, .role = {}, .type = "spc_t", .level = "s0:c1,c2"};
  given.host.cgroup_v2 = true;
  given.host.swap_limits = true;
  given.host.hugetlb = true;
  given.host.apparmor = true;
  given.host.selinux = policy_labels();
}

TEST(ContainerSpec, Everything) { expect_golden("everything.json", made_with(ask_for_everything)); }

TEST(ContainerSpec, WhatWeMakeTheRuntimeReads) {
  for (const auto& spec : {made(ordinary()), made_with(ask_for_everything)}) {
    const auto again = oci::parse_spec(oci::to_json(spec));
    ASSERT_TRUE(again.ok()) << again.error().message();
    EXPECT_EQ(*again, spec);
  }
}

struct Words {
  std::vector<std::string> command;
  std::vector<std::string> args;
  std::vector<std::string> expected;
};

TEST(Program, CommandReplacesEntrypointAndArgsReplaceCmd) {
  const Words cases[] = {{{}, {}, {"/entry", "image-cmd"}},
                         {{}, {"a"}, {"/entry", "a"}},
                         {{"c"}, {}, {"c"}},
                         {{"c"}, {"a"}, {"c", "a"}}};
  for (const Words& one : cases) {
    const auto spec = made_with([&](Given& given) {
      given.container.command = one.command;
      given.container.args = one.args;
    });
    EXPECT_EQ(spec.process->args, one.expected);
  }
  EXPECT_THAT(why([](Given& given) { given.image = {}; }), HasSubstr("command: empty: expected"));
  EXPECT_THAT(why([](Given& given) { given.container.command = {"a\xff"}; }),
              HasSubstr("command[0]: "));
}

TEST(EnvironmentOf, LaterWinsAndContainerOverImage) {
  const auto spec = made_with([](Given& given) {
    given.container.envs = {{"FROM", "container"}, {"A", "1"}, {"A", "2"}, {"HOSTNAME", "mine"}};
    given.container.tty = true;
  });
  EXPECT_THAT(spec.process->env, ElementsAre("PATH=/image/bin", "TERM=xterm", "HOSTNAME=mine",
                                             "HOME=/root", "FROM=container", "A=2"));
}

TEST(EnvironmentOf, RefusesWhatIsNoVariable) {
  EXPECT_THAT(why([](Given& given) { given.container.envs = {{"A", "b"}, {"", "x"}}; }),
              HasSubstr("envs[1].key: \"\": expected a name"));
  EXPECT_THAT(why([](Given& given) { given.container.envs = {{"A=B", "x"}}; }),
              HasSubstr("envs[0].key: \"A=B\""));
  EXPECT_THAT(why([](Given& given) { given.container.envs = {{"A", std::string("x\0y", 3)}}; }),
              HasSubstr("without NUL"));
  EXPECT_THAT(why([](Given& given) { given.container.envs = {{"A", std::string(3 << 20, 'x')}}; }),
              HasSubstr("expected at most"));
  EXPECT_THAT(why([](Given& given) { given.image.config.env = {"SECRET"}; }),  // CVE-2026-57231
              HasSubstr("image config: Env: \"SECRET\""));
}

TEST(WorkingDir, IsTheContainersElseTheImagesElseRoot) {
  const auto dir = [](const char* container, const char* image) {
    return made_with([&](Given& given) {
             given.container.working_dir = container;
             given.image.config.working_dir = image;
           })
        .process->cwd;
  };
  EXPECT_EQ(dir("/c", "/i"), "/c");
  EXPECT_EQ(dir("", "/i"), "/i");
  EXPECT_EQ(dir("", ""), "/");
  EXPECT_THAT(why([](Given& given) { given.image.config.working_dir = "rel"; }),
              HasSubstr("image config: WorkingDir: \"rel\": expected an absolute path"));
}

TEST(Mounts, ParentsComeBeforeChildren) {
  const auto spec = made_with(ask_for_everything);
  std::vector<std::string> seen;
  for (const oci::Mount& mount : spec.mounts) {
    for (const std::string& earlier : seen) {
      EXPECT_FALSE(earlier.starts_with(mount.destination + "/"))
          << mount.destination << " after " << earlier;
    }
    seen.push_back(mount.destination);
  }
}

TEST(Mounts, OneAskedForTakesTheUsualOnesPlace) {
  const auto spec = made_with([](Given& given) {
    given.container.mounts = {{.container_path = "/dev/shm", .host_path = "/srv/shm"},
                              {.container_path = "/etc/hosts", .host_path = "/srv/hosts"}};
  });
  EXPECT_EQ(find_mount(spec, "/dev/shm")->source, "/srv/shm");
  EXPECT_EQ(find_mount(spec, "/etc/hosts")->source, "/srv/hosts");
  EXPECT_EQ(std::count_if(spec.mounts.begin(), spec.mounts.end(),
                          [](const auto& one) { return one.destination == "/dev/shm"; }),
            1);
}

TEST(Mounts, AWholeDevComesWithWhatIsInIt) {
  const auto spec = made_with([](Given& given) {
    given.container.mounts = {{.container_path = "/dev", .host_path = "/dev"}};
  });
  EXPECT_EQ(find_mount(spec, "/dev")->source, "/dev");
  EXPECT_EQ(find_mount(spec, "/dev/pts"), nullptr);
  EXPECT_EQ(find_mount(spec, "/dev/shm"), nullptr);
}

TEST(Mounts, WithoutASandboxsSharedMemoryThereIsATmpfs) {
  const auto spec = made_with([](Given& given) { given.sandbox.shm.clear(); });
  EXPECT_EQ(find_mount(spec, "/dev/shm")->type, "tmpfs");
}

TEST(Mounts, PropagationReachesTheRoot) {
  const auto root = [](std::vector<Propagation> asked) {
    return made_with([&](Given& given) {
             for (size_t i = 0; i < asked.size(); ++i) {
               given.container.mounts.push_back(
                   {.container_path = cat("/m", i), .host_path = "/srv", .propagation = asked[i]});
             }
           })
        .linux_->rootfs_propagation;
  };
  EXPECT_EQ(root({Propagation::kPrivate}), "");
  EXPECT_EQ(root({Propagation::kPrivate, Propagation::kHostToContainer}), "rslave");
  EXPECT_EQ(root({Propagation::kBidirectional, Propagation::kHostToContainer}), "rshared");
}

TEST(Mounts, RefusesByField) {
  const std::pair<Mount, const char*> cases[] = {
      {{.container_path = "a", .host_path = "/b"}, "mounts[0].container_path: \"a\": expected an"},
      {{.container_path = "/a/../b", .host_path = "/b"}, "mounts[0].container_path: \"/a/../b\""},
      {{.container_path = "/", .host_path = "/b"}, "mounts[0].container_path: \"/\": expected"},
      {{.container_path = "//.", .host_path = "/b"}, "mounts[0].container_path: \"/\": expected"},
      {{.container_path = "/a", .host_path = ""},
       "mounts[0].host_path: \"\": expected an absolute"},
      {{.container_path = "/a", .host_path = "b"}, "mounts[0].host_path: \"b\""},
      {{.container_path = "/a", .host_path = "/b", .recursive_readonly = true},
       "mounts[0].recursive_read_only: expected readonly"},
      {{.container_path = "/a",
        .host_path = "/b",
        .readonly = true,
        .recursive_readonly = true,
        .propagation = Propagation::kHostToContainer},
       "mounts[0].recursive_read_only: expected propagation PRIVATE"},
      {{.container_path = "/a", .host_path = "/b", .uid_mappings = {{0, 1, 1}}},
       "mounts[0]: expected uidMappings and gidMappings"}};
  for (const auto& one : cases) {
    EXPECT_THAT(why([&](Given& given) { given.container.mounts.push_back(one.first); }),
                HasSubstr(one.second));
  }
}

TEST(Security, APrivilegedContainerNeedsAPrivilegedSandbox) {
  EXPECT_THAT(why([](Given& given) { given.container.security.privileged = true; }),
              HasSubstr("privileged: expected a sandbox that is privileged too"));
}

TEST(Security, UnsaidSeccompIsUnconfinedAndAnEmptyProfileIsTheDefault) {
  EXPECT_FALSE(made(ordinary()).linux_->seccomp.has_value());
  const auto spec = made_with([](Given& given) {
    given.container.security.seccomp = SeccompProfile{};
    given.container.security.add_capabilities = {"SYS_TIME"};
  });
  EXPECT_EQ(*spec.linux_->seccomp, default_seccomp(spec.process->capabilities->bounding, "amd64"));
  EXPECT_THAT(spec.linux_->seccomp->syscalls[0].names, Contains("clock_settime"));
  EXPECT_THAT(why([](Given& given) {
                given.container.security.seccomp = SeccompProfile{.type = ProfileType::kLocalhost};
              }),
              HasSubstr("seccomp: \"Localhost\""));
}

TEST(Security, AnApparmorProfileThatIsAskedForIsThereOrRefused) {
  const auto on_a_host_without_ours = [](std::optional<ApparmorProfile> asked, bool privileged) {
    return [asked, privileged](Given& given) {
      given.container.security.apparmor = asked;
      given.container.security.privileged = privileged;
      given.sandbox.privileged = privileged;
      given.host.apparmor = true;
      given.host.apparmor_default.clear();
    };
  };
  const ApparmorProfile usual{.type = ProfileType::kRuntimeDefault, .localhost = {}};
  EXPECT_THAT(why(on_a_host_without_ours(usual, false)),
              HasSubstr("apparmor: RuntimeDefault: the profile fluyt-default is not loaded"));
  EXPECT_EQ(made_with(on_a_host_without_ours(std::nullopt, false)).process->apparmor_profile, "");
  EXPECT_EQ(made_with(on_a_host_without_ours(usual, true)).process->apparmor_profile, "");
}

TEST(Security, Apparmor) {
  const auto profile = [](ProfileType type, bool host_has) {
    return made_with([&](Given& given) {
             given.container.security.apparmor = ApparmorProfile{.type = type, .localhost = "x"};
             given.host.apparmor = host_has;
             given.host.apparmor_default = "fluyt-default";
           })
        .process->apparmor_profile;
  };
  EXPECT_EQ(profile(ProfileType::kRuntimeDefault, true), "fluyt-default");
  EXPECT_EQ(profile(ProfileType::kRuntimeDefault, false), "");
  EXPECT_EQ(profile(ProfileType::kUnconfined, true), "");
  EXPECT_EQ(profile(ProfileType::kLocalhost, true), "x");
  EXPECT_THAT(why([](Given& given) {
                given.container.security.apparmor =
                    ApparmorProfile{.type = ProfileType::kLocalhost, .localhost = "x"};
              }),
              HasSubstr("apparmor: \"x\": the host has no AppArmor"));
}

// A pod with labels, whose containers say nothing.
void give_labels(Given& given) {
  given.host.selinux = given.sandbox.selinux = policy_labels();
  given.sandbox.selinux->process.level = given.sandbox.selinux->file.level = "s0:c1,c2";
}
std::pair<std::string, std::string> labels(const std::function<void(Given&)>& change) {
  const auto spec = made_with([&](Given& given) {
    give_labels(given);
    change(given);
  });
  return {spec.process->selinux_label, spec.linux_->mount_label};
}
constexpr const char* kPodFile = "system_u:object_r:container_file_t:s0:c1,c2";

TEST(SelinuxLabelsOf, AContainerHasThePodsUnlessItSaysOtherwise) {
  EXPECT_EQ(labels([](Given&) {}),
            std::pair("system_u:system_r:container_t:s0:c1,c2"s, std::string(kPodFile)));
  EXPECT_EQ(labels([](Given& given) { given.container.security.selinux.type = "spc_t"; }),
            std::pair("system_u:system_r:spc_t:s0:c1,c2"s, std::string(kPodFile)));
  EXPECT_EQ(
      labels([](Given& given) { given.container.security.selinux.level = "s0"; }),
      std::pair("system_u:system_r:container_t:s0"s, "system_u:object_r:container_file_t:s0"s));
  EXPECT_THAT(why([](Given& given) {
                give_labels(given);
                given.container.security.selinux.type = "a b";
              }),
              HasSubstr("linux.security_context.selinux_options: type: \"a b\": expected"));
}

TEST(SelinuxLabelsOf, APrivilegedContainersFilesAloneHaveOne) {
  const auto privileged = [](Given& given) {
    given.sandbox.privileged = given.container.security.privileged = true;
    given.container.security.selinux.type = "container_t";
  };
  EXPECT_EQ(labels(privileged), std::pair(""s, std::string(kPodFile)));
  EXPECT_THAT(why([&](Given& given) {
                give_labels(given);
                privileged(given);
                given.container.security.selinux.level = "s0,c4,c5";
              }),
              HasSubstr("level: \"s0,c4,c5\": expected"));
}

TEST(SelinuxLabelsOf, AmongTheHostsProcessesAProgramHasTheOneThatSomebodyChose) {
  const auto pid = [](Given& given) { given.container.namespaces.pid = NamespaceSource::host(); };
  EXPECT_EQ(labels(pid), std::pair(""s, std::string(kPodFile)));
  EXPECT_EQ(labels([](Given& given) { given.container.namespaces.ipc = NamespaceSource::host(); }),
            std::pair(""s, std::string(kPodFile)));
  EXPECT_EQ(labels([&](Given& given) {
              pid(given);
              given.sandbox.selinux_asked = true;
            }).first,
            "system_u:system_r:container_t:s0:c1,c2");
  EXPECT_EQ(labels([&](Given& given) {
              pid(given);
              given.container.security.selinux.type = "spc_t";
            }).first,
            "system_u:system_r:spc_t:s0:c1,c2");
}

TEST(SelinuxLabelsOf, InAPodWithoutLabelsAContainerHasThoseThatItAsksFor) {
  const auto ask = [](Given& given) { given.container.security.selinux.type = "spc_t"; };
  const auto on_host_with = [&](Given& given) {
    ask(given);
    given.host.selinux = policy_labels();
  };
  EXPECT_EQ(made_with(on_host_with).process->selinux_label, "system_u:system_r:spc_t:s0");
  EXPECT_EQ(
      made_with([](Given& given) { given.host.selinux = policy_labels(); }).linux_->mount_label,
      "");
  EXPECT_EQ(made_with(ask).process->selinux_label, "");  // CRI: ignored where there is no SELinux
  EXPECT_THAT(why([&](Given& given) {
                ask(given);
                given.host.no_selinux = "its policy knows no containers";
              }),
              HasSubstr("selinux_options: its policy knows no containers"));
}

TEST(Security, MaskedPathsAreOursUnlessSaid) {
  EXPECT_THAT(made(ordinary()).linux_->masked_paths, Contains("/proc/kcore"));
  const auto none =
      made_with([](Given& given) { given.container.security.masked_paths.emplace(); });
  EXPECT_THAT(none.linux_->masked_paths, IsEmpty());
  EXPECT_THAT(why([](Given& given) { given.container.security.masked_paths = {{"kcore"}}; }),
              HasSubstr("masked_paths: \"kcore\""));
}

TEST(Security, DevicesAreDeniedBeforeTheyAreAllowed) {
  const auto spec = made_with(ask_for_everything);
  ASSERT_EQ(spec.linux_->resources->devices.size(), 2U);
  EXPECT_FALSE(spec.linux_->resources->devices[0].allow);
  EXPECT_TRUE(spec.linux_->resources->devices[1].allow);
  EXPECT_EQ(spec.linux_->resources->devices[1].minor, 232);
  EXPECT_THAT(why([](Given& given) {
                given.container.devices = {{.container_path = "/dev/x", .permissions = "rx"}};
              }),
              HasSubstr("devices[0].permissions: \"rx\""));
  EXPECT_THAT(
      why([](Given& given) { given.container.devices = {{.container_path = "/dev/../x"}}; }),
      HasSubstr("devices[0].container_path: \"/dev/../x\""));
}

TEST(ResourcesOf, RefusesByField) {
  const std::pair<Resources, const char*> cases[] = {
      {{.cpu_period = -1}, "linux.resources.cpu_period: -1"},
      {{.cpu_quota = -2}, "linux.resources.cpu_quota: -2"},
      {{.cpu_shares = -1}, "linux.resources.cpu_shares: -1"},
      {{.memory_limit_bytes = -1}, "linux.resources.memory_limit_in_bytes: -1"},
      {{.memory_swap_limit_bytes = -2}, "linux.resources.memory_swap_limit_in_bytes: -2"},
      {{.cpuset_cpus = "0\n"}, "linux.resources.cpuset_cpus: \"0\\x0a\""},
      {{.cpuset_mems = "a"}, "linux.resources.cpuset_mems: \"a\""},
      {{.hugepage_limits = {{"../2MB", 1}}}, "page_size \"../2MB\""},
      {{.hugepage_limits = {{"2MB", 1}}}, "2MB: the host has no hugetlb controller"},
      {{.unified = {{"memory.high", "1"}}}, "the host has no cgroup v2 controllers"}};
  for (const auto& [resources, message] : cases) {
    const auto result = resources_of(resources, Host{});
    ASSERT_FALSE(result.ok()) << message;
    EXPECT_THAT(result.error().message(), HasSubstr(message));
  }
  const auto escape = resources_of({.unified = {{"../cgroup.procs", "1"}}}, {.cgroup_v2 = true});
  EXPECT_THAT(escape.error().message(), HasSubstr("unified: \"../cgroup.procs\""));
}

TEST(ResourcesOf, NothingSaidIsNothingSet) {
  EXPECT_EQ(*resources_of({}, Host{}), oci::Resources{});
  EXPECT_EQ(*resources_of({.hugepage_limits = {{"2MB", 0}}}, Host{}), oci::Resources{});
}

TEST(ResourcesOf, NoSwapUnlessAskedFor) {
  const Resources asked{.memory_limit_bytes = 1000};
  EXPECT_EQ(resources_of(asked, {.swap_limits = true})->memory->swap, 1000);
  EXPECT_EQ(resources_of(asked, {.swap_limits = false})->memory->swap, std::nullopt);
}

TEST(ResourcesOf, OomScoreIsRaisedToWhatTheHostLetsUs) {
  const auto score = [](int64_t asked, int32_t floor) {
    return made_with([&](Given& given) {
             given.container.resources.oom_score_adj = asked;
             given.host.oom_score_floor = floor;
           })
        .process->oom_score_adj;
  };
  EXPECT_EQ(score(-997, -1000), -997);
  EXPECT_EQ(score(-997, 0), 0);
  EXPECT_EQ(score(500, 0), 500);
  EXPECT_THAT(why([](Given& given) { given.container.resources.oom_score_adj = 1001; }),
              HasSubstr("oom_score_adj: 1001"));
}

TEST(CgroupsPath, StaysBelowTheParent) {
  for (const char* parent : {"/a/../b", "a", "", "/..", "/a/."}) {
    EXPECT_THAT(why([&](Given& given) { given.sandbox.cgroup_parent = parent; }),
                HasSubstr("linux.cgroup_parent: "))
        << parent;
  }
  EXPECT_THAT(why([](Given& given) { given.container.id = "../x"; }), HasSubstr("container id"));
}

TEST(CgroupsPath, IsAScopeInTheSliceWhereSystemdMakesIt) {
  std::string id;
  const auto spec = made_with([&](Given& given) {
    given.sandbox.cgroup_parent = "";
    given.sandbox.cgroup_slice = "kubepods-pod1.slice";
    id = given.container.id;
  });
  EXPECT_EQ(spec.linux_->cgroups_path, cat("kubepods-pod1.slice:cri-fluyt:", id));
}

TEST(NamespacesOf, UserNamespaceNeedsMappings) {
  EXPECT_THAT(why([](Given& given) { given.container.namespaces.user = {}; }),
              HasSubstr("expected mappings of both kinds"));
  EXPECT_THAT(
      why([](Given& given) { given.container.namespaces.network = NamespaceSource::join("ns/x"); }),
      HasSubstr("namespace network: \"ns/x\""));
}

TEST(NamespacesOf, AHostCgroupNamespaceWhereThereIsNone) {
  const auto spec = made_with([](Given& given) { given.host.cgroup_namespaces = false; });
  EXPECT_THAT(spec.linux_->namespaces,
              Not(Contains(oci::Namespace{.type = oci::NamespaceType::kCgroup, .path = {}})));
}

TEST(ExecProcess, KeepsIdentityAndConfinement) {
  const auto spec = made_with([](Given& given) {
    given.container.user.run_as_user = 1000;
    given.container.security.no_new_privs = true;
  });
  const auto process = exec_process(spec, {"ls", "-l"}, true);
  ASSERT_TRUE(process.ok());
  EXPECT_EQ(process->user, spec.process->user);
  EXPECT_EQ(process->capabilities, spec.process->capabilities);
  EXPECT_TRUE(process->no_new_privileges);
  EXPECT_TRUE(process->terminal);
  EXPECT_THAT(process->args, ElementsAre("ls", "-l"));
  EXPECT_THAT(process->env, Contains("TERM=xterm"));
  EXPECT_THAT(exec_process(spec, {}, false).error().message(), HasSubstr("cmd: empty"));
}

void in_user_namespace(Given& given) {
  Namespaces& namespaces = given.container.namespaces;
  namespaces.user = NamespaceSource::join("/run/s/user");
  namespaces.uid_mappings = {{.container_id = 0, .host_id = 100000, .size = 2000}};
  namespaces.gid_mappings = {{.container_id = 0, .host_id = 200000, .size = 3000}};
}

TEST(UserNamespace, IsJoinedFirstAndHasItsMappings) {
  const oci::Spec spec = made_with(in_user_namespace);
  ASSERT_FALSE(spec.linux_->namespaces.empty());
  EXPECT_EQ(spec.linux_->namespaces.front(),
            (oci::Namespace{.type = oci::NamespaceType::kUser, .path = "/run/s/user"}));
  EXPECT_EQ(spec.linux_->uid_mappings.front().host_id, 100000U);
  EXPECT_EQ(spec.linux_->gid_mappings.front().host_id, 200000U);
}

TEST(UserNamespace, WhomItDoesNotKnowNobodyCanBe) {
  EXPECT_THAT(why([](Given& given) {
                in_user_namespace(given);
                given.container.user.run_as_user = 2000;
              }),
              HasSubstr("run_as_user: 2000: expected a user of the pod's user namespace"));
  EXPECT_THAT(why([](Given& given) {
                in_user_namespace(given);
                given.container.user.run_as_user = 1999;
                given.container.user.run_as_group = 3000;
              }),
              HasSubstr("run_as_group: 3000"));
  EXPECT_THAT(why([](Given& given) {
                in_user_namespace(given);
                given.container.user.supplemental_groups = {2999, 70000};
              }),
              HasSubstr("supplemental_groups: 70000"));
  EXPECT_THAT(why([](Given& given) {
                in_user_namespace(given);
                given.image.config.user = "5000";
              }),
              HasSubstr("run_as_user: 5000"));
}

TEST(Mounts, AnImageIsReadOnlyAndItsSpecialFilesMeanNothing) {
  const oci::Spec spec = made_with([](Given& given) {
    Mount mount;
    mount.container_path = "/image";
    mount.host_path = "/run/b/images/0";
    mount.readonly = true;
    mount.image = true;
    given.container.mounts.push_back(mount);
  });
  const auto found =
      std::find_if(spec.mounts.begin(), spec.mounts.end(),
                   [](const oci::Mount& one) { return one.destination == "/image"; });
  ASSERT_NE(found, spec.mounts.end());
  EXPECT_EQ(found->source, "/run/b/images/0");
  EXPECT_THAT(found->options, ElementsAre("rbind", "rprivate", "ro", "nosuid", "nodev"));
}

}  // namespace
}  // namespace fluyt::spec
