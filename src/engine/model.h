#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "engine/config.h"
#include "engine/state.h"
#include "network/network.h"

/// What the engine knows of a sandbox and of a container: immutable values. A change makes a new
/// one, so that a list is a copy of pointers and no reader waits for a verb.
namespace fluyt::engine {

/// Paths of the namespaces that the monitor holds; empty where the host's is used.
struct NamespacePaths {
  std::string user;
  std::string network;
  std::string ipc;
  std::string uts;
  std::string pid;
  bool operator==(const NamespacePaths&) const = default;
};

struct Sandbox {
  std::string id;
  SandboxConfig config;
  std::string runtime_handler;  // as it was asked for
  std::string handler;          // what that meant then; empty in old records: the linked one
  SandboxState state = SandboxState::kCreating;
  int64_t created_at = 0;  // unix ns
  NamespacePaths namespaces;
  std::vector<std::string> ips;   // the first is the primary one
  std::string network_result;     // CNI's, as JSON
  bool network_attached = false;  // a DEL is owed
  int32_t monitor_pid = 0;
  std::string boot_id;  // of the boot that it was made in; empty in old records
  std::string reason;   // why it is not ready, where nobody asked for that
  /// What was in force when it was made, and is until it goes. Empty in old records: the default.
  std::string cgroup_parent;
  CgroupDriver cgroup_driver = CgroupDriver::kCgroupfs;
  /// Its SELinux labels, of programs and files, which its containers have unless they say
  /// otherwise. Empty: it was made without.
  std::string process_label;
  std::string file_label;
  /// Its monitor has a container with its id, which the runtime makes the others' sandbox.
  bool own_container = false;
  bool operator==(const Sandbox&) const = default;
};
using SandboxPtr = std::shared_ptr<const Sandbox>;

struct ContainerUser {
  int64_t uid = 0;
  int64_t gid = 0;
  std::vector<int64_t> groups;
  bool operator==(const ContainerUser&) const = default;
};

/// See runtime::CgroupRecord.
struct CgroupPaths {
  std::string unified;
  std::vector<std::pair<std::string, std::string>> legacy;  // v1 controller to directory
  int32_t holder = 0;  // a process of ours in there, not the container's; 0: none
  bool operator==(const CgroupPaths&) const = default;
};

struct Container {
  std::string id;
  std::string sandbox_id;
  ContainerConfig config;
  ContainerState state = ContainerState::kCreating;
  std::string image_id;      // sha256:…
  std::string image_digest;  // a name@digest of it, or the id when it has none
  std::string image_name;   // the tag, else name@digest that people know it by; else what was asked
  std::string log_path;     // absolute; empty without one
  std::string stop_signal;  // the one in force, such as "SIGTERM"
  int64_t created_at = 0;   // unix ns, 0: not yet
  int64_t started_at = 0;
  int64_t finished_at = 0;
  int32_t pid = 0;
  int32_t exit_code = 0;
  std::string reason;   // Completed, Error, OOMKilled, StartError, MonitorLost, Unknown
  std::string message;  // for people
  ContainerUser user;
  std::vector<std::string> argv;
  CgroupPaths cgroup;
  std::string process_json;  // oci::Process of the container, the base of every exec
  std::string file_label;    // SELinux; empty: none
  bool operator==(const Container&) const = default;
};
using ContainerPtr = std::shared_ptr<const Container>;

/// Every part that is set must match.
struct SandboxFilter {
  std::string id;  // whole, or a prefix of exactly one
  std::optional<SandboxState> state;
  std::map<std::string, std::string> labels;
};
struct ContainerFilter {
  std::string id;
  std::string sandbox_id;
  std::optional<ContainerState> state;
  std::map<std::string, std::string> labels;
};
bool matches(const SandboxFilter& filter, const Sandbox& sandbox);
bool matches(const ContainerFilter& filter, const Container& container);

/// The file system that something lies on.
struct FsTotals {
  uint64_t bytes = 0;
  uint64_t inodes = 0;
  uint64_t free_inodes = 0;
  std::string device;  // "/dev/vda1", or its numbers where it has no name
};

struct DiskUsage {
  int64_t timestamp = 0;
  std::string mountpoint;
  uint64_t used_bytes = 0;
  uint64_t inodes = 0;
  std::optional<FsTotals> file_system = {};
  bool complete = true;  // false: there may be more, which was not counted
};

/// How long tasks have waited for something (pressure stall information): percentages of the last
/// 10, 60 and 300 s, and the sum.
struct Pressure {
  struct Line {
    double avg10 = 0;
    double avg60 = 0;
    double avg300 = 0;
    uint64_t total_ns = 0;
  };
  Line some;  // at least one task waited
  Line full;  // all of them did
};

/// One reading of a cgroup. What this host does not count is left out.
struct Usage {
  int64_t timestamp = 0;  // unix ns
  std::optional<uint64_t> cpu_usage_ns;
  std::optional<uint64_t> cpu_nano_cores;  // over the time since the last reading
  std::optional<uint64_t> memory_usage_bytes;
  std::optional<uint64_t> memory_working_set_bytes;
  std::optional<uint64_t> memory_rss_bytes;
  std::optional<uint64_t> memory_limit_bytes;  // nothing: none
  std::optional<uint64_t> page_faults;
  std::optional<uint64_t> major_page_faults;
  std::optional<uint64_t> swap_usage_bytes;
  std::optional<uint64_t> swap_available_bytes;  // of a limit
  std::optional<uint64_t> process_count;
  std::optional<Pressure> cpu_pressure;
  std::optional<Pressure> memory_pressure;
  std::optional<Pressure> io_pressure;
};

struct ContainerStats {
  ContainerPtr container;
  Usage usage;
  std::optional<DiskUsage> writable_layer;  // with its own time: it is measured now and then
};

using InterfaceUsage = network::InterfaceTraffic;

struct SandboxStats {
  SandboxPtr sandbox;
  Usage usage;                             // of the pod's cgroup, else its containers' together
  int64_t network_timestamp = 0;           // unix ns
  std::vector<InterfaceUsage> interfaces;  // the default one first; none in the host's network
  std::vector<ContainerStats> containers;  // those that run
};

}  // namespace fluyt::engine
