#pragma once

#include <array>
#include <cstdint>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "base/result.h"
#include "monitor/protocol/messages.h"

/// A sandbox's state folder, as the monitor writes it and fluytd reads it when the monitor is dead:
///
///   monitor.sock        the socket
///   monitor.json        ProcessRecord of the monitor; before it is there, of its cgroup
///   monitor.log         what the monitor has to say
///   pod_init.json       the same of the pod init, with a shared PID namespace
///   runtime.json        RuntimeProgram of its containers, where it is not the linked runtime
///   ns/                 a private mount of its own; ns/user, ns/net, ns/ipc, ns/uts and
///                       ns/pid are nsfs mounts
///   containers/ID.json  ContainerInfo, renamed into place before anybody is told
///   containers/ID.spec  the container's OCI spec without its environment, for exec
///   containers/ID.run/  what is said to and by the runtime program while it is called
namespace fluyt::monitor {

inline constexpr std::string_view kSocketFile = "monitor.sock";
inline constexpr std::string_view kMonitorFile = "monitor.json";
inline constexpr std::string_view kLogFile = "monitor.log";
inline constexpr std::string_view kPodInitFile = "pod_init.json";
inline constexpr std::string_view kRuntimeFile = "runtime.json";
inline constexpr std::string_view kNamespaceFolder = "ns";
inline constexpr std::string_view kContainerFolder = "containers";
inline constexpr std::string_view kRecordSuffix = ".json";
inline constexpr std::string_view kSpecSuffix = ".spec";
inline constexpr std::string_view kCallSuffix = ".run";
/// In the container's bundle, where a runtime program reads its specification.
inline constexpr std::string_view kConfigFile = "config.json";
/// Below the namespaces' folder, whose mount is private: where a container's root is mounted for a
/// runtime program, in a mount namespace of the worker that calls it.
inline constexpr std::string_view kRootFolder = "rootfs";
inline constexpr std::string_view kTreeFolder = "trees";  // the same of its image volumes
inline constexpr std::array<std::string_view, 5> kNamespaceFiles = {"user", "net", "ipc", "uts",
                                                                    "pid"};

/// Names a process for good: the pid counts only while boot id and start time are the same.
struct ProcessRecord {
  int32_t pid = 0;  // 0: it is to come, and whatever is in its cgroup is what came of it
  uint64_t start_time = 0;
  std::string boot_id;
  std::string cgroup_unified;  // its own cgroup: empty with the next when it has none
  std::vector<std::pair<std::string, std::string>> cgroup_legacy;
  std::string cgroup_unit;  // with its slice: the scope, where it is systemd's
  std::string cgroup_slice;
  bool operator==(const ProcessRecord&) const = default;
};
std::string encode(const ProcessRecord& record);
/// Whether a record may be of a process that was not made yet: pid 0, with the cgroup that was to
/// be made for it.
enum class ToCome { kRefused, kTaken };
Result<ProcessRecord> decode_process_record(std::string_view json,
                                            ToCome to_come = ToCome::kRefused);

}  // namespace fluyt::monitor
