#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "base/result.h"
#include "oci/runtime_spec.h"
#include "runtime/caps/caps.h"
#include "runtime/mount_options.h"
#include "runtime/net_devices.h"
#include "runtime/seccomp/compile.h"
#include "sys/clone.h"
#include "sys/identity.h"
#include "sys/overlay.h"

/// A container as a value: everything that creating it will do, computed from the specification
/// without touching the kernel, compared in tests without root, then applied by prepare.h (in the
/// caller, on the host) and first_process.h (inside).
namespace fluyt::runtime {

/// CLONE_NEWPID for kPid.
uint64_t namespace_flag(oci::NamespaceType type);

struct NamespacePlan {
  struct Join {
    uint64_t type = 0;  // CLONE_NEW*
    std::string path;
    size_t index = 0;  // of linux.namespaces, for messages
    bool operator==(const Join&) const = default;
  };
  /// When the process that will run the program is forked from the one that sets up.
  enum class Fork {
    kNone,   // the first process does everything
    kEarly,  // at once, into a PID namespace that is new and hence empty
    kLate,   // last, into a PID namespace where others live: with nothing left to take from it
  };
  uint64_t at_clone = 0;    // made by clone3(2)
  uint64_t unshared = 0;    // made by the first process, after the joins
  std::vector<Join> joins;  // user first, mount last
  /// Whose mounts the container's are. The caller's: they are seen on the host, so everything lies
  /// below a mount of the root that goes with the container, and the root is entered by chroot(2).
  enum class Mounts { kOwn, kJoined, kCallers };
  bool new_cgroup = false;
  Fork fork = Fork::kNone;
  Mounts mounts = Mounts::kOwn;
  bool new_user = false;
  bool new_network = false;
  std::vector<sys::IdRange> uids;
  std::vector<sys::IdRange> gids;
  std::string time_offsets;  // what timens_offsets gets
  /// Whether a namespace of this type is not the caller's.
  bool has(uint64_t type) const;
  bool in_user_namespace() const { return has(CLONE_NEWUSER); }
};

enum class MountKind {
  kBind,     // a clone of a host path, made by the caller
  kHostFs,   // a file system with a source on the host (a disk, an overlay): made by the caller
  kFs,       // tmpfs, devpts, mqueue, ...: made inside
  kProc,     // made inside, target without links
  kSysfs,    // likewise
  kCgroup,   // the container's own cgroup directories
  kRemount,  // attributes of what is there
};
struct MountPlan {
  size_t index = 0;  // of the specification's list, for messages
  MountKind kind = MountKind::kFs;
  std::string destination;  // absolute, without "." and "..", as seen inside
  std::string type;
  std::string label;           // SELinux: its root gets it once it is made; empty: none
  std::string source;          // absolute for binds
  std::string source_in_root;  // a bind of what lies in the container's own root: its place there
  std::optional<sys::OverlayMount> tree;  // a bind: what is shown in place of the source
  MountOptions options;
  std::vector<sys::IdRange> uids;  // idmapped mounts
  std::vector<sys::IdRange> gids;
  bool operator==(const MountPlan&) const = default;
};

struct DevicePlan {
  std::string path;
  uint32_t mode = 0;  // S_IFCHR | 0666
  int64_t major = 0;
  int64_t minor = 0;
  uint32_t uid = 0;
  uint32_t gid = 0;
  bool operator==(const DevicePlan&) const = default;
};

struct RlimitPlan {
  int resource = 0;
  uint64_t soft = 0;
  uint64_t hard = 0;
  std::string name;
  bool operator==(const RlimitPlan&) const = default;
};

struct IdentityPlan {
  uid_t uid = 0;
  gid_t gid = 0;
  /// As asked. Who wants that a file which shuts the group out shuts out us too names `gid` again.
  std::vector<gid_t> groups;
  bool keeps_groups = false;  // nobody may change them there
  std::optional<mode_t> umask;
  std::vector<RlimitPlan> rlimits;
  caps::Sets capabilities;  // none where the specification names none
  int last_capability = 0;
  bool no_new_privileges = false;
  std::optional<int> oom_score_adj;
  std::optional<sys::SchedulerAttributes> scheduler;
  std::optional<int> io_priority;
  std::string apparmor_profile;
  std::string selinux_label;
  // An exec's CPUs before and after it joins the container's cgroup; empty: untouched.
  std::vector<unsigned> initial_cpus;
  std::vector<unsigned> final_cpus;
};

struct SysctlPlan {
  std::string path;  // below /proc/sys
  std::string value;
  std::string key;     // as the specification has it
  uint64_t owner = 0;  // the namespace that it is of, CLONE_NEW*
  bool operator==(const SysctlPlan&) const = default;
};

struct MemoryPolicyPlan {
  int mode = 0;  // with its flags
  std::vector<unsigned long> nodes;
};

/// What the first process does, in order. Names are for errors and for tests.
enum class Step {
  kAwaitMaker,     // it has put us into our cgroup, given us ids and limits
  kJoinContainer,  // an exec
  kJoinNamespaces,
  kMakeUserNamespace,
  kMakeNamespaces,
  kForkEarly,
  kBecomeRoot,
  kCgroupNamespace,
  kLoopback,
  kNetDevices,
  kOwnMounts,   // no mount event leaves our namespace from here on
  kEarlyProc,   // in a user namespace: the kernel wants a visible procfs before it gives another
  kAttachRoot,  // over /
  kAttachRootAtPath,  // with hooks: where they look for it
  kPivot,
  kMounts,  // those before the first of cgroups
  kLaterMounts,
  kDevices,
  kDevLinks,
  kRuntimeHooks,
  kContainerHooks,
  kConsole,
  kHostName,
  kSysctl,
  kReadOnlyRoot,
  kReadOnlyPaths,
  kMaskedPaths,
  kRootPropagation,
  kLetGo,  // of what came from the host: nothing after this needs it
  kKeyring,
  kScheduling,
  kSecurityLabels,
  kRlimits,
  kStdioOwner,
  kWorkingDirectory,
  kSeccompEarly,  // without no_new_privs it needs CAP_SYS_ADMIN
  kIdentity,
  kVerifyDirectory,
  kProgram,
  kForkLate,
  kSession,
  kNoNewPrivileges,
  kSeccomp,
  kCloseDescriptors,
};
std::string_view step_name(Step step);

struct Plan {
  std::string id;
  NamespacePlan namespaces;

  std::string root_path;  // absolute; empty with an overlay
  std::optional<sys::OverlayMount> overlay;
  std::optional<MountPlan> root_bind;  // a mount at "/": the root in place of root_path's directory
  bool root_read_only = false;
  uint64_t root_propagation = 0;  // MS_*; 0: private
  bool root_propagation_tree = false;
  bool no_pivot = false;

  /// The overlay is mounted by the first process, while the maker sees to cgroups and limits: of
  /// directories of ours alone, before anything of the image is there.
  bool makes_root_inside() const;

  std::vector<MountPlan> mounts;
  /// How many of them come before the first that shows cgroups.
  size_t mounts_before_cgroups() const;
  std::string mount_label;  // SELinux context of what is mounted
  bool makes_dev = true;    // /dev is ours to fill: it is not a bind
  std::vector<DevicePlan> devices;
  std::vector<std::string> masked_paths;
  std::vector<std::string> read_only_paths;

  std::string host_name;
  std::string domain_name;
  std::vector<SysctlPlan> sysctls;
  std::optional<unsigned long> personality;
  std::optional<MemoryPolicyPlan> memory_policy;
  bool new_keyring = true;

  IdentityPlan identity;
  std::optional<seccomp::Program> seccomp;
  std::string seccomp_listener_path;
  std::string seccomp_listener_metadata;

  std::vector<std::string> args;
  std::vector<std::string> env;
  std::string cwd;
  bool terminal = false;
  uint16_t console_height = 0;
  uint16_t console_width = 0;
  int preserve_fds = 0;

  std::string cgroups_path;
  oci::Resources resources;
  std::optional<oci::IntelRdt> intel_rdt;
  std::vector<NetDevicePlan> net_devices;
  oci::Hooks hooks;

  std::vector<Step> steps;
  std::vector<std::string> warnings;
};

/// What of the host the plan depends on. A value, so that tests choose it.
struct HostFacts {
  int last_capability = 40;
  caps::Sets holding;  // our own
  bool apparmor = false;
  bool selinux = false;
  bool groups_denied = false;  // in the container's user namespace: sys::groups_denied()
};
/// Looks for security modules only where something of theirs is asked for.
enum class Labels { kNone, kAsked };
Result<HostFacts> host_facts(Labels labels);
Labels labels_of(const oci::Process& process);
Labels labels_of(const oci::Spec& spec);

struct PlanRequest {
  std::string id;
  std::string bundle;
  const oci::Spec* spec = nullptr;
  const std::optional<sys::OverlayMount>* overlay_root = nullptr;
  const std::map<std::string, sys::OverlayMount>* trees = nullptr;
  const std::vector<size_t>* mount_places = nullptr;  // CreateRequest
  int preserve_fds = 0;
  bool no_pivot = false;
  bool no_new_keyring = false;
  bool fills_dev = true;
};
/// Pure. What the specification asks and we do not do is kUnimplemented, by its field's name.
Result<Plan> make_plan(const PlanRequest& request, const HostFacts& host);

/// The identity of one process: of the container's first, and of each exec.
Result<IdentityPlan> plan_identity(const oci::Process& process, const HostFacts& host,
                                   std::vector<std::string>& warnings);
Result<NamespacePlan> plan_namespaces(const oci::Linux& config);
Result<std::vector<MountPlan>> plan_mounts(const oci::Spec& spec, const std::string& bundle,
                                           const NamespacePlan& namespaces,
                                           const std::vector<size_t>& places);
Result<std::vector<SysctlPlan>> plan_sysctls(const oci::Spec& spec,
                                             const NamespacePlan& namespaces);
/// What every process of the container runs under, each exec too: personality, memory policy.
Result<> plan_execution(const oci::Linux& config, Plan& plan);
Result<> plan_seccomp(const oci::Seccomp& profile, Plan& plan);
/// Fills in what `process` says: args, env, cwd, terminal.
Result<> plan_process(const oci::Process& process, Plan& plan);
/// The plan's scheduler for process `pid`; 0 is ourselves.
Result<> set_scheduler(const Plan& plan, pid_t pid);
std::vector<Step> plan_steps(const Plan& plan);
/// The part of it that an exec takes too: from the keyring to the seccomp filter.
std::vector<Step> plan_process_steps(const Plan& plan);

/// An absolute path without empty, "." and ".." components; relative ones start at "/".
std::string clean_path(std::string_view path);
/// "0-3,7": CPUs or memory nodes. `field` names it in errors.
Result<std::vector<unsigned>> parse_number_list(std::string_view text, std::string_view field);

}  // namespace fluyt::runtime
