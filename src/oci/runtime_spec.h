#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"

/// OCI runtime-spec 1.3 as values (config.md, config-linux.md). Field names are the specification's
/// in snake_case. An optional that is empty was absent; an empty vector was absent or empty.
namespace fluyt::oci {

struct IdMapping {
  uint32_t container_id = 0;
  uint32_t host_id = 0;
  uint32_t size = 0;
  bool operator==(const IdMapping&) const = default;
};

struct Mount {
  std::string destination;
  std::string type;
  std::string source;
  std::vector<std::string> options;
  std::vector<IdMapping> uid_mappings;
  std::vector<IdMapping> gid_mappings;
  bool operator==(const Mount&) const = default;
};

struct User {
  uint32_t uid = 0;
  uint32_t gid = 0;
  std::optional<uint32_t> umask;
  std::vector<uint32_t> additional_gids;
  bool operator==(const User&) const = default;
};

struct Rlimit {
  std::string type;  // RLIMIT_NOFILE, ...
  uint64_t soft = 0;
  uint64_t hard = 0;
  bool operator==(const Rlimit&) const = default;
};

struct Capabilities {  // names with the CAP_ prefix
  std::vector<std::string> bounding;
  std::vector<std::string> effective;
  std::vector<std::string> inheritable;
  std::vector<std::string> permitted;
  std::vector<std::string> ambient;
  bool operator==(const Capabilities&) const = default;
};

struct ConsoleSize {
  uint32_t height = 0;
  uint32_t width = 0;
  bool operator==(const ConsoleSize&) const = default;
};

struct Scheduler {
  std::string policy;
  std::optional<int32_t> nice;
  std::optional<int32_t> priority;
  std::vector<std::string> flags;
  std::optional<uint64_t> runtime;
  std::optional<uint64_t> deadline;
  std::optional<uint64_t> period;
  bool operator==(const Scheduler&) const = default;
};

struct IoPriority {
  std::string io_class;
  int32_t priority = 0;
  bool operator==(const IoPriority&) const = default;
};

struct ExecCpuAffinity {
  std::string initial;
  std::string final;
  bool operator==(const ExecCpuAffinity&) const = default;
};

struct Process {
  bool terminal = false;
  std::optional<ConsoleSize> console_size;
  User user;
  std::vector<std::string> args;
  std::vector<std::string> env;
  std::string cwd;
  std::optional<Capabilities> capabilities;
  std::vector<Rlimit> rlimits;
  bool no_new_privileges = false;
  std::string apparmor_profile;
  std::string selinux_label;
  std::optional<int32_t> oom_score_adj;
  std::optional<Scheduler> scheduler;
  std::optional<IoPriority> io_priority;
  std::optional<ExecCpuAffinity> exec_cpu_affinity;
  bool operator==(const Process&) const = default;
};

struct Hook {
  std::string path;
  std::vector<std::string> args;
  std::vector<std::string> env;
  std::optional<int32_t> timeout;  // seconds, > 0
  bool operator==(const Hook&) const = default;
};

struct Hooks {
  std::vector<Hook> prestart;
  std::vector<Hook> create_runtime;
  std::vector<Hook> create_container;
  std::vector<Hook> start_container;
  std::vector<Hook> poststart;
  std::vector<Hook> poststop;
  bool operator==(const Hooks&) const = default;
};

enum class NamespaceType { kPid, kNetwork, kMount, kIpc, kUts, kUser, kCgroup, kTime };
/// "pid", "network", ...
std::string_view namespace_name(NamespaceType type);

struct Namespace {
  NamespaceType type = NamespaceType::kPid;
  std::string path;  // empty: a new one
  bool operator==(const Namespace&) const = default;
};

struct Device {
  std::string path;
  char type = 'c';  // c b u p
  int64_t major = 0;
  int64_t minor = 0;
  std::optional<uint32_t> file_mode;
  std::optional<uint32_t> uid;
  std::optional<uint32_t> gid;
  bool operator==(const Device&) const = default;
};

struct DeviceRule {
  bool allow = false;
  char type = 'a';               // a c b
  std::optional<int64_t> major;  // empty: all
  std::optional<int64_t> minor;
  std::string access;  // of r w m; empty: rwm
  bool operator==(const DeviceRule&) const = default;
};

struct MemoryResources {
  std::optional<int64_t> limit;  // -1: unlimited
  std::optional<int64_t> reservation;
  std::optional<int64_t> swap;  // memory + swap
  std::optional<int64_t> kernel;
  std::optional<int64_t> kernel_tcp;
  std::optional<uint64_t> swappiness;
  std::optional<bool> disable_oom_killer;
  std::optional<bool> use_hierarchy;
  std::optional<bool> check_before_update;
  bool operator==(const MemoryResources&) const = default;
};

struct CpuResources {
  std::optional<uint64_t> shares;
  std::optional<int64_t> quota;
  std::optional<uint64_t> burst;
  std::optional<uint64_t> period;
  std::optional<int64_t> realtime_runtime;
  std::optional<uint64_t> realtime_period;
  std::string cpus;
  std::string mems;
  std::optional<int64_t> idle;
  bool operator==(const CpuResources&) const = default;
};

struct WeightDevice {
  int64_t major = 0;
  int64_t minor = 0;
  std::optional<uint16_t> weight;
  std::optional<uint16_t> leaf_weight;
  bool operator==(const WeightDevice&) const = default;
};
struct ThrottleDevice {
  int64_t major = 0;
  int64_t minor = 0;
  uint64_t rate = 0;
  bool operator==(const ThrottleDevice&) const = default;
};
struct BlockIoResources {
  std::optional<uint16_t> weight;
  std::optional<uint16_t> leaf_weight;
  std::vector<WeightDevice> weight_device;
  std::vector<ThrottleDevice> throttle_read_bps_device;
  std::vector<ThrottleDevice> throttle_write_bps_device;
  std::vector<ThrottleDevice> throttle_read_iops_device;
  std::vector<ThrottleDevice> throttle_write_iops_device;
  bool operator==(const BlockIoResources&) const = default;
};

struct HugepageLimit {
  std::string page_size;  // "2MB"
  uint64_t limit = 0;
  bool operator==(const HugepageLimit&) const = default;
};

struct InterfacePriority {
  std::string name;
  uint32_t priority = 0;
  bool operator==(const InterfacePriority&) const = default;
};
struct NetworkResources {
  std::optional<uint32_t> class_id;
  std::vector<InterfacePriority> priorities;
  bool operator==(const NetworkResources&) const = default;
};

struct RdmaLimit {
  std::optional<uint32_t> hca_handles;
  std::optional<uint32_t> hca_objects;
  bool operator==(const RdmaLimit&) const = default;
};

struct Resources {
  std::vector<DeviceRule> devices;
  std::optional<MemoryResources> memory;
  std::optional<CpuResources> cpu;
  std::optional<BlockIoResources> block_io;
  std::vector<HugepageLimit> hugepage_limits;
  std::optional<NetworkResources> network;
  std::optional<int64_t> pids_limit;  // 0 is a real limit, -1 is max
  std::map<std::string, RdmaLimit> rdma;
  std::map<std::string, std::string> unified;
  bool operator==(const Resources&) const = default;
};

struct SeccompArg {
  uint32_t index = 0;
  uint64_t value = 0;
  uint64_t value_two = 0;
  std::string op;  // SCMP_CMP_EQ, ...
  bool operator==(const SeccompArg&) const = default;
};
struct SeccompSyscalls {
  std::vector<std::string> names;
  std::string action;  // SCMP_ACT_ALLOW, ...
  std::optional<uint32_t> errno_ret;
  std::vector<SeccompArg> args;
  bool operator==(const SeccompSyscalls&) const = default;
};
struct Seccomp {
  std::string default_action;
  std::optional<uint32_t> default_errno_ret;
  std::vector<std::string> architectures;         // SCMP_ARCH_X86_64, ...
  std::optional<std::vector<std::string>> flags;  // none at all is not the same as an empty list
  std::string listener_path;
  std::string listener_metadata;
  std::vector<SeccompSyscalls> syscalls;
  bool operator==(const Seccomp&) const = default;
};

struct IntelRdt {
  std::string clos_id;
  std::string l3_cache_schema;
  std::string mem_bw_schema;
  std::vector<std::string> schemata;
  bool enable_monitoring = false;
  bool operator==(const IntelRdt&) const = default;
};

struct MemoryPolicy {
  std::string mode;
  std::string nodes;
  std::vector<std::string> flags;
  bool operator==(const MemoryPolicy&) const = default;
};

struct Personality {
  std::string domain;
  std::vector<std::string> flags;
  bool operator==(const Personality&) const = default;
};

struct TimeOffset {
  int64_t secs = 0;
  uint32_t nanosecs = 0;
  bool operator==(const TimeOffset&) const = default;
};

struct Linux {
  std::vector<Namespace> namespaces;
  std::vector<IdMapping> uid_mappings;
  std::vector<IdMapping> gid_mappings;
  std::map<std::string, TimeOffset> time_offsets;
  std::vector<Device> devices;
  std::map<std::string, std::string> net_devices;  // host name to container name, empty: the same
  std::string cgroups_path;
  std::optional<Resources> resources;
  std::optional<IntelRdt> intel_rdt;
  std::optional<MemoryPolicy> memory_policy;
  std::map<std::string, std::string> sysctl;
  std::optional<Seccomp> seccomp;
  std::string rootfs_propagation;
  std::vector<std::string> masked_paths;
  std::vector<std::string> readonly_paths;
  std::string mount_label;
  std::optional<Personality> personality;
  bool operator==(const Linux&) const = default;
};

struct Root {
  std::string path;
  bool readonly = false;
  bool operator==(const Root&) const = default;
};

struct Spec {
  std::string oci_version = "1.3.0";
  std::optional<Process> process;
  std::optional<Root> root;
  std::string hostname;
  std::string domainname;
  std::vector<Mount> mounts;
  std::optional<Hooks> hooks;
  std::map<std::string, std::string> annotations;
  std::optional<Linux> linux_;  // "linux" is a macro of gcc
  bool operator==(const Spec&) const = default;
};

inline constexpr size_t kMaxSpecBytes = 16UL << 20U;

/// Parses a config.json. Wrong types, unknown enumerations and broken rules of the specification
/// are kInvalidArgument with the path: `linux.namespaces[2].type: "foo": expected one of pid, ...`.
/// Unknown fields are ignored, as the specification wants.
Result<Spec> parse_spec(std::string_view json);
Result<Process> parse_process(std::string_view json);      // exec --process
Result<Resources> parse_resources(std::string_view json);  // update --resources
Result<Seccomp> parse_seccomp(std::string_view json);      // a profile in a file of its own
/// One line; what is empty or absent is left out. parse(to_json(value)) is value again.
std::string to_json(const Spec& spec);
std::string to_json(const Process& process);
std::string to_json(const Resources& resources);
std::string to_json(const Seccomp& seccomp);
/// Indented, for people: what `runf spec` writes.
std::string to_pretty_json(const Spec& spec);

/// What `runf spec` writes: runc's default configuration.
Spec default_spec();
/// Makes of it what a caller without privileges can run: a user namespace that maps `uid` and `gid`
/// alone, the host's network, no resources.
void make_rootless(Spec& spec, uint32_t uid, uint32_t gid);

/// The state document (runtime.md, "State").
struct State {
  std::string oci_version = "1.3.0";
  std::string id;
  std::string status;  // creating created running stopped paused
  int32_t pid = 0;
  std::string bundle;
  std::map<std::string, std::string> annotations;
};
std::string to_json(const State& state);

}  // namespace fluyt::oci
