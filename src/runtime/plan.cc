#include "runtime/plan.h"

#include <linux/mempolicy.h>
#include <sys/personality.h>
#include <sys/stat.h>

#include <algorithm>
#include <array>

#include "base/strings.h"
#include "sys/file.h"
#include "sys/mount.h"

namespace fluyt::runtime {

namespace {

constexpr std::array<std::string_view, 44> kStepNames = {"start",
                                                         "join container",
                                                         "join namespaces",
                                                         "make user namespace",
                                                         "make namespaces",
                                                         "fork",
                                                         "become root",
                                                         "cgroup namespace",
                                                         "loopback",
                                                         "network devices",
                                                         "own mounts",
                                                         "early proc",
                                                         "attach root",
                                                         "attach root",
                                                         "pivot",
                                                         "mounts",
                                                         "mounts",
                                                         "devices",
                                                         "/dev links",
                                                         "createRuntime hooks",
                                                         "createContainer hooks",
                                                         "console",
                                                         "host name",
                                                         "sysctl",
                                                         "read-only root",
                                                         "read-only paths",
                                                         "masked paths",
                                                         "root propagation",
                                                         "let go",
                                                         "keyring",
                                                         "scheduling",
                                                         "security labels",
                                                         "rlimits",
                                                         "stdio owner",
                                                         "working directory",
                                                         "seccomp",
                                                         "identity",
                                                         "working directory",
                                                         "program",
                                                         "fork",
                                                         "session",
                                                         "no_new_privs",
                                                         "seccomp",
                                                         "close descriptors"};

constexpr int64_t kMaxMajor = 4095;  // 12 and 20 bits
constexpr int64_t kMaxMinor = (1 << 20) - 1;
constexpr uint32_t kDefaultDeviceMode = S_IFCHR | 0666;

std::vector<DevicePlan> default_devices() {
  return {{"/dev/null", kDefaultDeviceMode, 1, 3, 0, 0},
          {"/dev/zero", kDefaultDeviceMode, 1, 5, 0, 0},
          {"/dev/full", kDefaultDeviceMode, 1, 7, 0, 0},
          {"/dev/random", kDefaultDeviceMode, 1, 8, 0, 0},
          {"/dev/urandom", kDefaultDeviceMode, 1, 9, 0, 0},
          {"/dev/tty", kDefaultDeviceMode, 5, 0, 0, 0}};
}

Result<uint32_t> device_type(char type, size_t index) {
  switch (type) {
    case 'c':
    case 'u':
      return uint32_t{S_IFCHR};
    case 'b':
      return uint32_t{S_IFBLK};
    case 'p':
      return uint32_t{S_IFIFO};
    default:
      return Error(Code::kInvalidArgument,
                   cat("linux.devices[", index, "].type: ", quote(std::string_view(&type, 1)),
                       ": expected c, b, u or p"));
  }
}

Result<std::vector<DevicePlan>> plan_devices(const std::vector<oci::Device>& asked) {
  std::vector<DevicePlan> out = default_devices();
  for (size_t i = 0; i < asked.size(); ++i) {
    const oci::Device& device = asked[i];
    DevicePlan plan;
    if (!device.path.starts_with('/')) {
      return Error(Code::kInvalidArgument, cat("linux.devices[", i, "].path: ", quote(device.path),
                                               ": expected an absolute path"));
    }
    if (device.major < 0 || device.major > kMaxMajor || device.minor < 0 ||
        device.minor > kMaxMinor) {
      return Error(Code::kInvalidArgument, cat("linux.devices[", i, "]: ", device.major, ":",
                                               device.minor, ": not a device number"));
    }
    plan.path = clean_path(device.path);
    plan.mode = FLUYT_TRY(device_type(device.type, i)) | (device.file_mode.value_or(0666) & 07777U);
    plan.major = device.major;
    plan.minor = device.minor;
    plan.uid = device.uid.value_or(0);
    plan.gid = device.gid.value_or(0);
    if (plan.path == "/") {
      return Error(Code::kInvalidArgument,
                   cat("linux.devices[", i, "].path: ", quote(device.path)));
    }
    const auto same =
        std::find_if(out.begin(), out.end(), [&](auto& d) { return d.path == plan.path; });
    if (same != out.end()) {
      *same = std::move(plan);
    } else {
      out.push_back(std::move(plan));
    }
  }
  return out;
}

Result<> plan_root_propagation(const std::string& asked, Plan& plan) {
  if (asked.empty()) return {};
  const MountOptions options = FLUYT_TRY(parse_mount_options({asked}));
  if (options.propagation == 0) {
    return Error(Code::kInvalidArgument, cat("linux.rootfsPropagation: ", quote(asked),
                                             ": expected shared, slave, private or unbindable"));
  }
  plan.root_propagation = options.propagation;
  plan.root_propagation_tree = options.propagation_tree;
  return {};
}

Result<MemoryPolicyPlan> plan_memory_policy(const oci::MemoryPolicy& asked) {
  constexpr std::array<std::pair<std::string_view, int>, 7> kModes = {
      {{"MPOL_DEFAULT", MPOL_DEFAULT},
       {"MPOL_PREFERRED", MPOL_PREFERRED},
       {"MPOL_BIND", MPOL_BIND},
       {"MPOL_INTERLEAVE", MPOL_INTERLEAVE},
       {"MPOL_LOCAL", MPOL_LOCAL},
       {"MPOL_PREFERRED_MANY", 5},
       {"MPOL_WEIGHTED_INTERLEAVE", 6}}};
  constexpr std::array<std::pair<std::string_view, int>, 3> kFlags = {
      {{"MPOL_F_NUMA_BALANCING", 1 << 13},
       {"MPOL_F_RELATIVE_NODES", 1 << 14},
       {"MPOL_F_STATIC_NODES", 1 << 15}}};
  auto find = [](const auto& rows, std::string_view name) -> std::optional<int> {
    for (const auto& [known, value] : rows) {
      if (known == name) return value;
    }
    return std::nullopt;
  };
  MemoryPolicyPlan plan;
  const auto mode = find(kModes, asked.mode);
  if (!mode) {
    return Error(Code::kInvalidArgument, cat("linux.memoryPolicy.mode: ", quote(asked.mode),
                                             ": invalid memory policy mode"));
  }
  plan.mode = *mode;
  for (const std::string& flag : asked.flags) {
    const auto bit = find(kFlags, flag);
    if (!bit) {
      return Error(Code::kInvalidArgument,
                   cat("linux.memoryPolicy.flags: ", quote(flag), ": unknown"));
    }
    plan.mode |= *bit;
  }
  constexpr size_t kBits = sizeof(unsigned long) * 8;
  const auto nodes = FLUYT_TRY_CONTEXT(parse_number_list(asked.nodes, "linux.memoryPolicy.nodes"),
                                       "invalid memory policy nodes");
  // The kernel would say EINVAL to both, and not why.
  const bool takes_none = *mode == MPOL_DEFAULT || *mode == MPOL_LOCAL;
  if (takes_none && !nodes.empty()) {
    return Error(Code::kInvalidArgument,
                 cat("linux.memoryPolicy.nodes: ", quote(asked.nodes), ": ", asked.mode,
                     ": memory policy mode requires 0 nodes but got ", nodes.size()));
  }
  if (!takes_none && *mode != MPOL_PREFERRED && nodes.empty()) {
    return Error(Code::kInvalidArgument,
                 cat("linux.memoryPolicy.nodes: ", quote(asked.nodes), ": ", asked.mode,
                     ": memory policy mode requires at least 1 node but got 0"));
  }
  for (const unsigned node : nodes) {
    plan.nodes.resize(std::max<size_t>(plan.nodes.size(), node / kBits + 1));
    plan.nodes[node / kBits] |= 1UL << (node % kBits);
  }
  return plan;
}

Result<> plan_personality(const oci::Personality& asked, Plan& plan) {
  if (!asked.flags.empty()) {
    return Error(Code::kUnimplemented, "linux.personality.flags: none is defined");
  }
  if (asked.domain == "LINUX") {
    plan.personality = PER_LINUX;
  } else if (asked.domain == "LINUX32") {
    plan.personality = PER_LINUX32;
  } else {
    return Error(Code::kInvalidArgument, cat("linux.personality.domain: ", quote(asked.domain),
                                             ": expected LINUX or LINUX32"));
  }
  return {};
}

}  // namespace

Result<> plan_execution(const oci::Linux& config, Plan& plan) {
  if (config.personality) FLUYT_TRY(plan_personality(*config.personality, plan));
  if (config.memory_policy)
    plan.memory_policy = FLUYT_TRY(plan_memory_policy(*config.memory_policy));
  return {};
}

namespace {

// What is mounted at "/" is the root, and hides all that was mounted before it.
void take_root_bind(Plan& plan) {
  const auto last = std::find_if(plan.mounts.rbegin(), plan.mounts.rend(),
                                 [](const MountPlan& mount) { return mount.destination == "/"; });
  if (last == plan.mounts.rend()) return;
  plan.root_bind = *last;
  // Read-only at the end, like every root: what is mounted on it may have to be made first.
  MountOptions& options = plan.root_bind->options;
  if ((options.set & MOUNT_ATTR_RDONLY) != 0) plan.root_read_only = true;
  options.set &= ~uint64_t{MOUNT_ATTR_RDONLY};
  plan.mounts.erase(plan.mounts.begin(), last.base());
}

void add_once(std::vector<std::string>& list, std::string path) {
  if (std::find(list.begin(), list.end(), path) == list.end()) list.push_back(std::move(path));
}

void find_trees(const std::map<std::string, sys::OverlayMount>& trees, Plan& plan) {
  for (MountPlan& mount : plan.mounts) {
    const auto tree = trees.find(mount.source);
    if (mount.kind == MountKind::kBind && tree != trees.end()) mount.tree = tree->second;
  }
}

// An earlier mount may be what such a source shows: it cannot be opened ahead.
void find_sources_in_root(Plan& plan) {
  if (plan.root_path.empty() || plan.root_bind) return;
  const std::string root = clean_path(plan.root_path);
  for (MountPlan& mount : plan.mounts) {
    if (mount.kind != MountKind::kBind) continue;
    if (mount.options.source_itself || mount.options.copy_link || mount.tree) continue;
    const std::string source = clean_path(mount.source);
    if (source.size() <= root.size() + 1 || !source.starts_with(root) || source[root.size()] != '/')
      continue;
    mount.source_in_root = source.substr(root.size());
  }
}

Result<> plan_mount_label(const std::string& label, const HostFacts& host, Plan& plan) {
  if (label.empty()) return {};
  if (!host.selinux) {
    return Error(Code::kUnimplemented,
                 cat("linux.mountLabel: ", quote(label), ": this host has no SELinux"));
  }
  plan.mount_label = label;
  return {};
}

Result<> plan_net_devices(const oci::Linux& config, Plan& plan) {
  if (config.net_devices.empty()) return {};
  if (!plan.namespaces.has(CLONE_NEWNET)) {
    return Error(Code::kInvalidArgument, "linux.netDevices: needs a network namespace");
  }
  for (const auto& [host_name, name] : config.net_devices) {
    plan.net_devices.push_back({.host_name = host_name, .name = name.empty() ? host_name : name});
  }
  return {};
}

Result<> plan_root(const PlanRequest& request, Plan& plan) {
  if (request.overlay_root != nullptr && *request.overlay_root) {
    const sys::OverlayMount& root = **request.overlay_root;
    if (!root.lower_dirs.empty() || !root.ids.empty()) {
      plan.overlay = root;
    } else if (root.upper_dir.starts_with('/')) {
      plan.root_path = root.upper_dir;
    } else {
      return Error(Code::kInvalidArgument,
                   cat("overlay root: upper directory ", quote(root.upper_dir),
                       ": expected an absolute path, or lower directories"));
    }
  } else {
    if (!request.spec->root || request.spec->root->path.empty()) {
      return Error(Code::kInvalidArgument, "root.path: expected the root directory");
    }
    const std::string& path = request.spec->root->path;
    plan.root_path = path.starts_with('/') ? path : cat(request.bundle, "/", path);
  }
  plan.root_read_only = request.spec->root && request.spec->root->readonly;
  plan.no_pivot = request.no_pivot;
  if (plan.namespaces.mounts != NamespacePlan::Mounts::kCallers) return {};
  if (plan.overlay || clean_path(plan.root_path) == "/") {
    return Error(
        Code::kInvalidArgument,
        "linux.namespaces: an overlay root, or \"/\" as the root, needs a mount namespace");
  }
  return {};
}

Result<> plan_names(const oci::Spec& spec, Plan& plan) {
  plan.host_name = spec.hostname;
  plan.domain_name = spec.domainname;
  const bool named = !spec.hostname.empty() || !spec.domainname.empty();
  if (named && !plan.namespaces.has(CLONE_NEWUTS)) {
    return Error(Code::kInvalidArgument, "hostname: needs a uts namespace");
  }
  return {};
}

bool early_hooks(const oci::Hooks& hooks) {
  return !hooks.prestart.empty() || !hooks.create_runtime.empty() ||
         !hooks.create_container.empty();
}

// What the maker does for us (cgroups are made and joined meanwhile, which takes as long as the
// mounts do) can be awaited late where nothing before needs it: ids of a user namespace do, and
// whatever asks the maker for something else. Where mounts are seen by others, none is made that
// may have to go again.
bool awaits_late(const Plan& plan) {
  return !plan.namespaces.in_user_namespace() &&
         plan.namespaces.fork == NamespacePlan::Fork::kNone && plan.net_devices.empty() &&
         plan.namespaces.mounts == NamespacePlan::Mounts::kOwn;
}

void add_namespace_steps(const Plan& plan, std::vector<Step>& steps) {
  const NamespacePlan& namespaces = plan.namespaces;
  const bool late = awaits_late(plan);
  if (!late) steps.push_back(Step::kAwaitMaker);
  if (!namespaces.joins.empty()) steps.push_back(Step::kJoinNamespaces);
  const bool user_at_clone = (namespaces.at_clone & CLONE_NEWUSER) != 0;
  if (namespaces.new_user && !user_at_clone) steps.push_back(Step::kMakeUserNamespace);
  if (namespaces.in_user_namespace()) steps.push_back(Step::kBecomeRoot);
  if (namespaces.unshared != 0) steps.push_back(Step::kMakeNamespaces);
  if (namespaces.fork == NamespacePlan::Fork::kEarly) steps.push_back(Step::kForkEarly);
  if (!late && namespaces.new_cgroup) steps.push_back(Step::kCgroupNamespace);
  if (namespaces.new_network) steps.push_back(Step::kLoopback);
  if (!plan.net_devices.empty()) steps.push_back(Step::kNetDevices);
}

// With hooks that look for the root at its host path, mounts come before the pivot; without them
// the old root is gone before the first path of the image is touched.
void add_mount_steps(const Plan& plan, std::vector<Step>& steps) {
  const bool hooked = early_hooks(plan.hooks);
  const bool callers = plan.namespaces.mounts == NamespacePlan::Mounts::kCallers;
  if (!callers) steps.push_back(Step::kOwnMounts);
  if (plan.namespaces.in_user_namespace()) steps.push_back(Step::kEarlyProc);
  steps.push_back(hooked || callers ? Step::kAttachRootAtPath : Step::kAttachRoot);
  if (!hooked) steps.push_back(Step::kPivot);
  steps.push_back(Step::kMounts);
  if (awaits_late(plan)) {
    steps.push_back(Step::kAwaitMaker);
    if (plan.namespaces.new_cgroup) steps.push_back(Step::kCgroupNamespace);
  }
  if (plan.mounts_before_cgroups() < plan.mounts.size()) steps.push_back(Step::kLaterMounts);
  if (plan.makes_dev) {
    steps.push_back(Step::kDevices);
    steps.push_back(Step::kDevLinks);
  }
  if (hooked) {
    if (!plan.hooks.prestart.empty() || !plan.hooks.create_runtime.empty()) {
      steps.push_back(Step::kRuntimeHooks);
    }
    if (!plan.hooks.create_container.empty()) steps.push_back(Step::kContainerHooks);
    steps.push_back(Step::kPivot);
  }
  if (plan.terminal) steps.push_back(Step::kConsole);
  if (!plan.host_name.empty() || !plan.domain_name.empty()) steps.push_back(Step::kHostName);
  if (!plan.sysctls.empty()) steps.push_back(Step::kSysctl);
  if (!plan.read_only_paths.empty()) steps.push_back(Step::kReadOnlyPaths);
  if (!plan.masked_paths.empty()) steps.push_back(Step::kMaskedPaths);
}

void warn_of_options(Plan& plan) {
  for (const MountPlan& mount : plan.mounts) {
    for (const std::string& option : mount.options.passed_over) {
      plan.warnings.push_back(cat("mounts[", mount.index, "].options: ", quote(option),
                                  ": passed over: the file system alone decides"));
    }
  }
}

}  // namespace

bool Plan::makes_root_inside() const {
  return overlay && !root_bind && overlay->ids.empty() && awaits_late(*this);
}

size_t Plan::mounts_before_cgroups() const {
  const auto first = std::find_if(mounts.begin(), mounts.end(), [](const MountPlan& mount) {
    return mount.kind == MountKind::kCgroup;
  });
  return static_cast<size_t>(first - mounts.begin());
}

std::string_view step_name(Step step) { return kStepNames[static_cast<size_t>(step)]; }

std::vector<Step> plan_process_steps(const Plan& plan) {
  std::vector<Step> steps;
  const IdentityPlan& identity = plan.identity;
  steps.push_back(Step::kLetGo);
  if (plan.new_keyring) steps.push_back(Step::kKeyring);
  if (identity.scheduler || identity.io_priority || plan.personality || plan.memory_policy) {
    steps.push_back(Step::kScheduling);
  }
  if (!identity.apparmor_profile.empty() || !identity.selinux_label.empty()) {
    steps.push_back(Step::kSecurityLabels);
  }
  if (!identity.rlimits.empty()) steps.push_back(Step::kRlimits);
  if (!plan.terminal) steps.push_back(Step::kStdioOwner);
  steps.push_back(Step::kWorkingDirectory);
  const bool seccomp_early = plan.seccomp && !identity.no_new_privileges;
  // What is opened from there on is close-on-exec from birth, and the filter may know no
  // close_range(2).
  if (seccomp_early) steps.push_back(Step::kCloseDescriptors);
  if (seccomp_early) steps.push_back(Step::kSeccompEarly);
  steps.push_back(Step::kIdentity);
  steps.push_back(Step::kVerifyDirectory);
  steps.push_back(Step::kProgram);
  if (plan.namespaces.fork == NamespacePlan::Fork::kLate) steps.push_back(Step::kForkLate);
  steps.push_back(Step::kSession);
  if (identity.no_new_privileges) steps.push_back(Step::kNoNewPrivileges);
  if (!seccomp_early) steps.push_back(Step::kCloseDescriptors);
  if (plan.seccomp && !seccomp_early) steps.push_back(Step::kSeccomp);
  return steps;
}

std::vector<Step> plan_steps(const Plan& plan) {
  std::vector<Step> steps;
  add_namespace_steps(plan, steps);
  add_mount_steps(plan, steps);
  std::vector<Step> process = plan_process_steps(plan);
  // The working directory may have to be made, so the root turns read-only behind that.
  const auto after = std::find(process.begin(), process.end(), Step::kWorkingDirectory) + 1;
  std::vector<Step> root;
  if (plan.root_read_only) root.push_back(Step::kReadOnlyRoot);
  if (plan.root_propagation != 0) root.push_back(Step::kRootPropagation);
  process.insert(after, root.begin(), root.end());
  steps.insert(steps.end(), process.begin(), process.end());
  return steps;
}

Result<> plan_seccomp(const oci::Seccomp& profile, Plan& plan) {
  plan.seccomp = FLUYT_TRY_CONTEXT(seccomp::compile(profile), "linux.seccomp");
  plan.seccomp_listener_path = profile.listener_path;
  plan.seccomp_listener_metadata = profile.listener_metadata;
  if (plan.seccomp->notifies && profile.listener_path.empty()) {
    return Error(Code::kInvalidArgument,
                 "linux.seccomp.listenerPath: expected with SCMP_ACT_NOTIFY");
  }
  return {};
}

Labels labels_of(const oci::Process& process) {
  const bool any = !process.apparmor_profile.empty() || !process.selinux_label.empty();
  return any ? Labels::kAsked : Labels::kNone;
}

Labels labels_of(const oci::Spec& spec) {
  if (spec.linux_ && !spec.linux_->mount_label.empty()) return Labels::kAsked;
  return spec.process ? labels_of(*spec.process) : Labels::kNone;
}

Result<HostFacts> host_facts(Labels labels) {
  HostFacts facts;
  facts.last_capability = FLUYT_TRY(caps::last_cap());
  facts.holding = FLUYT_TRY(caps::current(facts.last_capability));
  if (labels == Labels::kNone) return facts;
  facts.apparmor = sys::exists("/sys/kernel/security/apparmor/profiles");
  facts.selinux = sys::exists("/sys/fs/selinux/enforce");
  return facts;
}

Result<Plan> make_plan(const PlanRequest& request, const HostFacts& host) {
  const oci::Spec& spec = *request.spec;
  const oci::Linux none;
  const oci::Linux& config = spec.linux_ ? *spec.linux_ : none;
  if (!spec.process) return Error(Code::kInvalidArgument, "process: expected what to run");
  Plan plan;
  plan.id = request.id;
  plan.namespaces = FLUYT_TRY(plan_namespaces(config));
  FLUYT_TRY(plan_root(request, plan));
  FLUYT_TRY(plan_root_propagation(config.rootfs_propagation, plan));
  const std::vector<size_t> none_moved;
  const auto& places = request.mount_places != nullptr ? *request.mount_places : none_moved;
  plan.mounts = FLUYT_TRY(plan_mounts(spec, request.bundle, plan.namespaces, places));
  warn_of_options(plan);
  if (request.trees != nullptr) find_trees(*request.trees, plan);
  take_root_bind(plan);
  find_sources_in_root(plan);
  plan.makes_dev = request.fills_dev &&
                   std::none_of(plan.mounts.begin(), plan.mounts.end(), [](const MountPlan& mount) {
                     return mount.kind == MountKind::kBind && mount.destination == "/dev";
                   });
  FLUYT_TRY(plan_mount_label(config.mount_label, host, plan));
  plan.devices = FLUYT_TRY(plan_devices(config.devices));
  for (const std::string& path : config.masked_paths) add_once(plan.masked_paths, clean_path(path));
  for (const std::string& path : config.readonly_paths)
    plan.read_only_paths.push_back(clean_path(path));
  FLUYT_TRY(plan_names(spec, plan));
  plan.sysctls = FLUYT_TRY(plan_sysctls(spec, plan.namespaces));
  FLUYT_TRY(plan_execution(config, plan));
  plan.new_keyring = !request.no_new_keyring;
  plan.identity = FLUYT_TRY(plan_identity(*spec.process, host, plan.warnings));
  FLUYT_TRY(plan_process(*spec.process, plan));
  plan.preserve_fds = request.preserve_fds;
  if (config.seccomp) FLUYT_TRY(plan_seccomp(*config.seccomp, plan));
  plan.cgroups_path = config.cgroups_path;
  if (config.resources) plan.resources = *config.resources;
  plan.intel_rdt = config.intel_rdt;
  FLUYT_TRY(plan_net_devices(config, plan));
  if (spec.hooks) plan.hooks = *spec.hooks;
  plan.steps = plan_steps(plan);
  return plan;
}

}  // namespace fluyt::runtime
