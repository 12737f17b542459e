#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "base/result.h"
#include "oci/image.h"
#include "oci/runtime_spec.h"
#include "spec/selinux.h"
#include "spec/user.h"

/// Sandbox, container and image configuration to a runtime spec. Pure: everything that has to be
/// looked up (files of the image, devices, namespaces, what the host can do) comes in as a value,
/// so that whole specs can be compared in tests. The words are those of CRI v1.
namespace fluyt::spec {

/// A container's scope, where systemd makes it, is PREFIX-ID.scope.
inline constexpr std::string_view kScopePrefix = "cri-fluyt";

/// What this host can do, found out once by the caller.
struct Host {
  oci::Platform platform = oci::Platform::host();
  bool cgroup_v2 = false;         // unified mode: `unified` settings can be applied
  bool cgroup_namespaces = true;  // an unprivileged container gets one of its own
  bool swap_limits = false;       // the memory controller can limit swap
  bool hugetlb = false;           // there is a hugetlb controller
  bool apparmor = false;
  std::string apparmor_default;  // the loaded profile for RuntimeDefault; empty: none is loaded
  std::optional<SelinuxLabels> selinux;   // what its policy has for containers; none: no labels
  std::string no_selinux;                 // why none, on a host that has SELinux; else empty
  std::vector<std::string> capabilities;  // what ALL means; empty: every one that we know
  int32_t oom_score_floor = -1000;        // a lower oom_score_adj is raised to this
};

/// One namespace of the container.
struct NamespaceSource {
  enum class Kind { kNew, kHost, kJoin } kind = Kind::kNew;
  std::string path;  // with kJoin: absolute, such as a bind mount or /proc/7/ns/pid
  static NamespaceSource host() { return {Kind::kHost, {}}; }
  static NamespaceSource join(std::string path) { return {Kind::kJoin, std::move(path)}; }
};

/// CRI's POD, CONTAINER, NODE and TARGET, resolved: POD joins the sandbox's, CONTAINER is new, NODE
/// the host's, TARGET joins the other container's.
struct Namespaces {
  NamespaceSource network;
  NamespaceSource ipc;
  NamespaceSource uts;
  NamespaceSource pid;
  NamespaceSource user = NamespaceSource::host();
  std::vector<oci::IdMapping> uid_mappings;  // with a new user namespace
  std::vector<oci::IdMapping> gid_mappings;
};

/// What the sandbox gives to each of its containers. Paths are the host's; empty ones are left out.
struct Sandbox {
  std::string hostname;     // for $HOSTNAME
  std::string resolv_conf;  // bound to /etc/resolv.conf, and so on
  std::string hosts;
  std::string hostname_file;
  std::string shm;            // bound to /dev/shm; empty: a tmpfs of the container's own
  std::string cgroup_parent;  // absolute: "/kubepods/pod1"
  std::string cgroup_slice;   // with the systemd driver, in its place: "kubepods-pod1.slice"
  bool privileged = false;    // must be, for a privileged container in it
  std::optional<SelinuxLabels> selinux;  // that its containers have unless they say otherwise
  bool selinux_asked = false;            // whether somebody chose them
};

enum class Propagation { kPrivate, kHostToContainer, kBidirectional };

struct Mount {
  std::string container_path;
  std::string host_path;
  bool image = false;  // an image's tree, which host_path stands for: read-only
  bool readonly = false;
  bool recursive_readonly = false;  // wants readonly and kPrivate
  Propagation propagation = Propagation::kPrivate;
  std::vector<oci::IdMapping> uid_mappings;  // both or neither
  std::vector<oci::IdMapping> gid_mappings;
};

/// A device of the host, already looked at by the caller.
struct Device {
  std::string container_path;
  char type = 'c';  // c or b
  int64_t major = 0;
  int64_t minor = 0;
  uint32_t file_mode = 0666;
  uint32_t uid = 0;
  uint32_t gid = 0;
  std::string permissions = "rwm";
};

enum class ProfileType { kRuntimeDefault, kUnconfined, kLocalhost };
struct SeccompProfile {
  ProfileType type = ProfileType::kRuntimeDefault;
  std::optional<oci::Seccomp> localhost;  // with kLocalhost: the file's content, parsed
};
struct ApparmorProfile {
  ProfileType type = ProfileType::kRuntimeDefault;
  std::string localhost;  // with kLocalhost: the profile's name
};
struct Security {
  bool privileged = false;
  bool readonly_rootfs = false;
  bool no_new_privs = false;
  std::vector<std::string> add_capabilities;  // "ALL", "NET_ADMIN" or "CAP_NET_ADMIN", any case
  std::vector<std::string> drop_capabilities;
  std::vector<std::string> add_ambient_capabilities;
  /// Left out: our defaults. CRI always sends lists. A privileged container has none.
  std::optional<std::vector<std::string>> masked_paths;
  std::optional<std::vector<std::string>> readonly_paths;
  std::optional<SeccompProfile> seccomp;    // left out: unconfined, as CRI says
  std::optional<ApparmorProfile> apparmor;  // left out: RuntimeDefault where the host has it
  SelinuxOptions selinux;  // without effect on a host without SELinux, as CRI has it
};

/// 0 and "" mean: not said.
struct Resources {
  int64_t cpu_period = 0;
  int64_t cpu_quota = 0;
  int64_t cpu_shares = 0;
  int64_t memory_limit_bytes = 0;
  int64_t memory_swap_limit_bytes = 0;  // memory + swap
  int64_t oom_score_adj = 0;
  int64_t pids_limit = 0;
  std::string cpuset_cpus;
  std::string cpuset_mems;
  std::map<std::string, uint64_t> hugepage_limits;  // "2MB" to bytes
  std::map<std::string, std::string> unified;
};

struct Container {
  std::string id;
  std::string rootfs = "rootfs";  // root.path: relative to the bundle, or absolute
  std::vector<std::string> command;
  std::vector<std::string> args;
  std::string working_dir;
  std::vector<std::pair<std::string, std::string>> envs;  // the later of one name wins
  bool tty = false;
  std::vector<Mount> mounts;
  std::vector<Device> devices;
  std::vector<Device> host_devices;  // every one of the host's: what a privileged container gets
  Namespaces namespaces;
  UserRequest user;
  UserFiles user_files;  // of the image
  Security security;
  Resources resources;
  std::vector<oci::Rlimit> rlimits;
  std::map<std::string, std::string> annotations;  // kept, never interpreted
};

/// The spec. kInvalidArgument names CRI's field, the value and what was expected;
/// kFailedPrecondition what the host lacks; kPermissionDenied a privileged container in a sandbox
/// that is not.
Result<oci::Spec> container_spec(const Container& container, const Sandbox& sandbox,
                                 const oci::ImageConfig& image, const Host& host);

/// A further process in a container made with `spec`: its identity, environment and confinement,
/// with `args` and a terminal or none.
Result<oci::Process> exec_process(const oci::Spec& spec, std::vector<std::string> args, bool tty);

/// CRI's resources as the runtime's, for create and for update alike.
Result<oci::Resources> resources_of(const Resources& resources, const Host& host);

}  // namespace fluyt::spec
