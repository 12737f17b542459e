#pragma once

#include <cstddef>
#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <variant>
#include <vector>

#include "base/result.h"
#include "sys/overlay.h"

/// What goes over the socket between fluytd and a monitor. A frame (frame.h) holds one JSON object:
/// a request, the answer to one, or an event. Unknown fields are ignored and absent ones have the
/// defaults below, so that two releases can talk; `hello` comes first and settles the version.
/// Whatever is secret or large (an OCI spec, an exec's process) is not in the JSON: it comes as a
/// sealed memfd beside it, which the monitor hands to a worker unread.
namespace fluyt::monitor {

inline constexpr uint32_t kProtocolVersion = 3;
inline constexpr uint32_t kOldestProtocolVersion = 1;
inline constexpr uint32_t kCheckpointVersion = 2;  // from which on there is `checkpoint`
inline constexpr uint32_t kReplaceVersion = 3;     // and `replace`

/// A program with runc's command line that makes a sandbox's containers, in place of the runtime
/// that the monitor links.
struct RuntimeProgram {
  std::string path;                  // absolute
  std::vector<std::string> options;  // global ones of its own, in front of the command
  bool systemd_cgroup = false;       // --systemd-cgroup
  std::string root;                  // absolute: the folder of its states (--root)
  bool operator==(const RuntimeProgram&) const = default;
};

/// What the monitor makes for a sandbox before anything runs in it.
struct SandboxRequest {
  std::string id;
  std::string hostname;
  bool new_network = true;  // false: the host's
  bool new_ipc = true;
  bool new_uts = true;
  bool shared_pid = false;  // a pod init in a PID namespace of its own
  std::string
      pod_init_cgroup;  // the parent of the pod init's cgroup, a path; "" for the monitor's own
  std::vector<std::pair<std::string, std::string>> sysctls;  // namespaced ones only: checked
  sys::IdMaps
      users;  // of a user namespace of its own, which then owns the others; empty: the host's
  std::optional<RuntimeProgram> runtime;  // of every container; none: the linked one
};
struct SandboxNamespaces {  // bind mounts below the sandbox's state folder; empty where the host's
  std::string user;
  std::string network;
  std::string ipc;
  std::string uts;
  std::string pid;  // with shared_pid
};

/// What is given an SELinux label before a container is made that has it mounted.
struct Relabel {
  std::string path;  // sys::relabel()
  std::string label;
  std::string what;        // how errors call it: "mounts[1].host_path"
  bool of_caller = false;  // who chose the path: sys::never_relabelled() are refused
  bool operator==(const Relabel&) const = default;
};

struct CreateRequest {
  std::string id;
  std::string bundle;  // the container's folder
  std::string spec_json;
  std::optional<sys::OverlayMount> root;
  std::map<std::string, sys::OverlayMount> trees;  // see runtime::CreateRequest
  std::vector<Relabel> relabels;                   // in this order
  /// The container whose PID namespace the spec names by a path through its pid; "" for none.
  /// kFailedPrecondition unless it lives until the new one is made: that path is its own till then.
  std::string joins;
  bool open_stdin = false;
  bool stdin_once = false;
  std::string log_directory;  // both empty: output is kept for attach only
  std::string log_path;       // relative to log_directory
  int64_t deadline_ms = 120'000;
};

enum class ContainerState { kCreated, kRunning, kExited };
struct ContainerInfo {
  std::string id;
  ContainerState state = ContainerState::kCreated;
  int32_t pid = 0;
  int64_t created_at = 0;  // unix ns; 0: not yet
  int64_t started_at = 0;
  int64_t finished_at = 0;
  int32_t exit_code = 0;  // 128 + signal
  bool oom_killed = false;
  std::string message;         // why it could not be started
  std::string cgroup_unified;  // see runtime::CgroupRecord
  std::vector<std::pair<std::string, std::string>> cgroup_legacy;
  std::string cgroup_unit;  // the scope and its slice, where it is systemd's; else empty
  std::string cgroup_slice;
  int32_t cgroup_holder = 0;       // a process of the monitor's in there, 0: none
  uint64_t pid_start_time = 0;     // of `pid`: with the boot id it names the process for good
  uint64_t log_bytes_dropped = 0;  // output that could not be written to the log file
  bool operator==(const ContainerInfo&) const = default;
};

namespace wire {

struct Hello {
  uint32_t version = kProtocolVersion;
  uint32_t oldest = kOldestProtocolVersion;
  /// Names the asking program's run: request ids are counted within it, so that a request repeated
  /// on a new connection of the same client gets the first answer.
  std::string client;
};
struct MakeSandbox {
  SandboxRequest sandbox;
  int64_t deadline_ms = 30'000;
};
struct Create {
  CreateRequest container;  // without spec_json: the frame's descriptor holds it
};
struct Start {
  std::string id;
  int64_t deadline_ms = 30'000;
};
struct Signal {
  std::string id;
  int32_t signal = 0;
  bool all = false;
};
struct Exec {  // descriptors: the process as JSON, then in, out, err as far as they are named here
  std::string id;
  bool terminal = false;
  bool has_in = false;
  bool has_out = false;
  bool has_err = false;
  int64_t deadline_ms = 30'000;
};
struct KillExec {
  uint64_t exec_id = 0;
  int32_t signal = 9;
};
struct Attach {  // descriptors: in, out, err as far as they are named here
  std::string id;
  bool has_in = false;
  bool has_out = false;
  bool has_err = false;
};
struct Resize {
  std::string id;
  uint16_t height = 0;
  uint16_t width = 0;
};
struct ReopenLog {
  std::string id;
};
struct Update {  // descriptor: the resources as JSON
  std::string id;
};
struct Remove {
  std::string id;
  int64_t deadline_ms = 30'000;
};
struct Checkpoint {
  std::string id;
  std::string bundle;
  std::string folder;  // empty and ours: gets CRIU's images, dump.log and spec.dump
  int64_t deadline_ms = 300'000;
};
/// Descriptors: mounts of the programs of the monitor and of the pod init.
struct Replace {};
struct List {};
struct Shutdown {
  int64_t deadline_ms = 30'000;
};

using Verb = std::variant<Hello, MakeSandbox, Create, Start, Signal, Exec, KillExec, Attach, Resize,
                          ReopenLog, Update, Remove, List, Shutdown, Checkpoint, Replace>;
struct Request {
  uint64_t id = 0;
  size_t fds = 0;  // how many descriptors come with the frame
  Verb verb;
};

struct HelloAnswer {
  uint32_t version = kProtocolVersion;  // the one both speak
  std::string program;                  // the monitor's release
  std::string sandbox_id;
  int32_t pid = 0;
};
struct ExecAnswer {
  uint64_t exec_id = 0;
  int32_t pid = 0;  // the frame's descriptor is the console, with a terminal
};
struct Done {};
using Outcome = std::variant<Done, HelloAnswer, SandboxNamespaces, ContainerInfo, ExecAnswer,
                             std::vector<ContainerInfo>>;
struct Answer {
  uint64_t id = 0;
  size_t fds = 0;
  Result<Outcome> outcome = Outcome(Done{});
  std::string trace;  // for trace::graft()
};

struct ExecExited {
  uint64_t exec_id = 0;
  int32_t exit_code = 0;
};
/// Its PID namespace takes no process any more.
struct PodInitEnded {};
struct Event {
  std::variant<ContainerInfo, ExecExited, PodInitEnded> what;  // ContainerInfo: what changed, whole
};

std::string encode(const Request& request);
std::string encode(const Answer& answer);
std::string encode(const Event& event);

/// Wrong types, unknown verbs and missing ids are kInvalidArgument and name the field.
Result<Request> decode_request(std::string_view json);
/// What a client can be told: an answer or an event.
Result<std::variant<Answer, Event>> decode_reply(std::string_view json);

}  // namespace wire

/// A container's record in the state folder: the same JSON as on the wire.
std::string encode_record(const ContainerInfo& info);
Result<ContainerInfo> decode_record(std::string_view json);

/// The sandbox's runtime program in the state folder. A path or root that is not absolute is
/// kInvalidArgument.
std::string encode_runtime(const RuntimeProgram& runtime);
Result<RuntimeProgram> decode_runtime(std::string_view json);

}  // namespace fluyt::monitor
