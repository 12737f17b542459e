#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <vector>

/// What a caller asks of a sandbox or a container: CRI's words as plain values, so that every front
/// end speaks to the engine alike. Nothing here has been checked yet.
namespace fluyt::engine {

enum class NamespaceMode { kPod, kContainer, kNode, kTarget };

struct IdMap {
  uint32_t container_id = 0;
  uint32_t host_id = 0;
  uint32_t length = 0;
  bool operator==(const IdMap&) const = default;
};

/// The ids of a user namespace: one range each, whose container ids begin with 0.
struct UserIds {
  IdMap uids;
  IdMap gids;
  bool operator==(const UserIds&) const = default;
};

struct NamespaceOptions {
  NamespaceMode network = NamespaceMode::kPod;
  NamespaceMode pid = NamespaceMode::kPod;
  NamespaceMode ipc = NamespaceMode::kPod;
  NamespaceMode user = NamespaceMode::kPod;  // or kNode
  /// With kPod. A sandbox without them has the host's user namespace; a container has its
  /// sandbox's, with or without them.
  std::optional<UserIds> user_ids;
  std::string target_id;  // with kTarget: a container of the same sandbox
  bool operator==(const NamespaceOptions&) const = default;
};

/// seccomp or AppArmor.
struct SecurityProfile {
  enum class Type { kRuntimeDefault, kUnconfined, kLocalhost } type = Type::kRuntimeDefault;
  std::string localhost_ref;
  bool operator==(const SecurityProfile&) const = default;
};

/// Empty words: the policy's usual ones.
struct SelinuxOptions {
  std::string user;
  std::string role;
  std::string type;
  std::string level;
  bool operator==(const SelinuxOptions&) const = default;
};

enum class GroupsPolicy { kMerge, kStrict };

/// 0 and "" mean: not said.
struct Resources {
  int64_t cpu_period = 0;
  int64_t cpu_quota = 0;
  int64_t cpu_shares = 0;
  int64_t memory_limit_bytes = 0;
  int64_t memory_swap_limit_bytes = 0;
  int64_t oom_score_adj = 0;
  int64_t pids_limit = 0;
  std::string cpuset_cpus;
  std::string cpuset_mems;
  std::map<std::string, uint64_t> hugepage_limits;  // "2MB" to bytes
  std::map<std::string, std::string> unified;
  bool operator==(const Resources&) const = default;
};

struct PortMapping {
  std::string protocol;  // tcp udp sctp
  uint16_t container_port = 0;
  uint16_t host_port = 0;  // 0: none
  std::string host_ip;
  bool operator==(const PortMapping&) const = default;
};

struct DnsConfig {
  std::vector<std::string> servers;
  std::vector<std::string> searches;
  std::vector<std::string> options;
  bool empty() const { return servers.empty() && searches.empty() && options.empty(); }
  bool operator==(const DnsConfig&) const = default;
};

/// A sandbox's name: unique while it exists.
struct SandboxName {
  std::string name;
  std::string name_space;
  std::string uid;
  uint32_t attempt = 0;
  auto operator<=>(const SandboxName&) const = default;
};

/// Who makes the cgroups of pods and monitors.
enum class CgroupDriver { kCgroupfs, kSystemd };

struct SandboxConfig {
  SandboxName name;
  std::string hostname;
  std::string log_directory;
  DnsConfig dns;
  std::vector<PortMapping> port_mappings;
  std::map<std::string, std::string> labels;
  std::map<std::string, std::string> annotations;
  std::string cgroup_parent;  // see cgroup_parent.h; empty: the engine's default
  NamespaceOptions namespaces;
  std::map<std::string, std::string> sysctls;
  std::optional<SecurityProfile> seccomp;
  std::optional<int64_t> run_as_user;
  std::optional<int64_t> run_as_group;
  std::vector<int64_t> supplemental_groups;
  bool readonly_rootfs = false;
  bool privileged = false;
  std::optional<SelinuxOptions> selinux;
  /// What its caller has given the pod as a whole, in the cgroup that the caller made: kept to be
  /// shown, never written anywhere.
  std::optional<Resources> overhead;
  std::optional<Resources> resources;
  bool operator==(const SandboxConfig&) const = default;
};

enum class Propagation { kPrivate, kHostToContainer, kBidirectional };

struct Mount {
  std::string container_path;
  std::string host_path;
  bool readonly = false;
  bool recursive_readonly = false;
  Propagation propagation = Propagation::kPrivate;
  bool selinux_relabel = false;
  std::vector<IdMap> uid_maps;
  std::vector<IdMap> gid_maps;
  std::string image;  // an image volume: mounted in place of host_path
  std::string image_sub_path;
  std::string user_specified_image;  // what a person wrote, for status alone
  std::string image_id;              // the engine's: of the image that was mounted
  bool operator==(const Mount&) const = default;
};

struct Device {
  std::string container_path;
  std::string host_path;
  std::string permissions;  // of r w m
  bool operator==(const Device&) const = default;
};

struct SecurityContext {
  std::vector<std::string> add_capabilities;
  std::vector<std::string> drop_capabilities;
  std::vector<std::string> add_ambient_capabilities;
  bool privileged = false;
  bool readonly_rootfs = false;
  bool no_new_privs = false;
  NamespaceOptions namespaces;
  std::optional<int64_t> run_as_user;
  std::optional<int64_t> run_as_group;
  std::string run_as_username;
  std::vector<int64_t> supplemental_groups;
  GroupsPolicy groups_policy = GroupsPolicy::kMerge;
  /// Left out: the defaults. An empty list: none.
  std::optional<std::vector<std::string>> masked_paths;
  std::optional<std::vector<std::string>> readonly_paths;
  std::optional<SecurityProfile> seccomp;  // left out: unconfined, as CRI says
  std::optional<SecurityProfile> apparmor;
  std::optional<SelinuxOptions> selinux;
  bool operator==(const SecurityContext&) const = default;
};

/// What a container is called within its sandbox: unique there while it exists.
struct ContainerName {
  std::string name;
  uint32_t attempt = 0;
  auto operator<=>(const ContainerName&) const = default;
};

struct EnvVar {
  std::string name;
  std::string value;
  bool operator==(const EnvVar&) const = default;
};

struct ContainerConfig {
  ContainerName name;
  std::string image;                 // name or id, as the caller says it
  std::string user_specified_image;  // what a person wrote, for status alone
  std::vector<std::string> command;  // in place of the image's entrypoint
  std::vector<std::string> args;     // in place of the image's command
  std::string working_dir;
  std::vector<EnvVar> envs;
  std::vector<Mount> mounts;
  std::vector<Device> devices;
  std::vector<std::string> cdi_devices;  // "vendor.com/class=name"
  std::map<std::string, std::string> labels;
  std::map<std::string, std::string> annotations;
  std::string log_path;  // relative to the sandbox's log_directory
  bool open_stdin = false;
  bool stdin_once = false;
  bool tty = false;
  Resources resources;
  SecurityContext security;
  std::string stop_signal;  // "SIGTERM"; empty: the image's, else SIGTERM
  bool operator==(const ContainerConfig&) const = default;
};

}  // namespace fluyt::engine
