#pragma once

#include <sys/types.h>

#include <cstdint>
#include <functional>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "base/time.h"
#include "oci/runtime_spec.h"
#include "runtime/cgroup/cgroup.h"
#include "sys/fd.h"
#include "sys/overlay.h"
#include "sys/process.h"

/// The verbs of the runtime library. Single-threaded callers only (they clone). Used by `runf`, and
/// by the monitor's worker processes.
namespace fluyt::runtime {

/// Whose child the container's first process becomes.
enum class ParentOf {
  kCaller,         // ours: we wait for it
  kCallersParent,  // CLONE_PARENT: a worker makes it for the monitor
};

/// Whether the container gets a cgroup. Without one it stays in the caller's and has no limits: its
/// record is empty, and ending it is ending its first process.
enum class Cgroups { kMake, kNone };

/// Borrowed; an invalid one stands for /dev/null. Not used with a terminal.
struct Stdio {
  sys::FdRef in;
  sys::FdRef out;
  sys::FdRef err;
};

/// What it takes to end a container whose creation was cut short.
struct Made {
  /// Of the process that will run the program, or of the one that makes what that needs and forks
  /// it.
  pid_t pid = 0;
  uint64_t start_time = 0;
  const CgroupRecord& cgroup;
  uint64_t root_mount = 0;  // as in Created
};

/// What a new terminal does with the newlines of the program's output.
enum class Newlines {
  kToNewLine,  // as terminals do: a carriage return goes in front
  kAsWritten,  // for a caller that passes the output on to a terminal, a file or a pipe of its own
};

/// Whether annotations of the spec (org.systemd.property.NAME) set properties of the container's
/// scope.
enum class UnitProperties { kObey, kIgnore };

/// A program of the caller's in place of the one that process.args names: executed by descriptor,
/// so that nothing of the image is looked at for it. Its arguments are process.args.
struct Program {
  sys::FdRef file;                      // invalid: process.args[0], found in the container
  std::vector<sys::FdRef> descriptors;  // that it has too, under the numbers that they have here
};

struct CreateRequest {
  std::string id;
  std::string bundle;  // absolute: relative paths of the spec start here
  oci::Spec spec;
  std::optional<sys::OverlayMount> overlay_root;  // in place of spec.root.path
  /// Trees to be mounted in place of what the spec's binds name as their source: a name to a tree.
  std::map<std::string, sys::OverlayMount> trees;
  /// For messages: where each of spec.mounts stands in the list that its author wrote. Empty:
  /// there.
  std::vector<size_t> mount_places;
  Program program;
  Stdio stdio;
  ParentOf parent = ParentOf::kCaller;
  /// The first process reads one byte here before execve; end of file makes it exit without running
  /// anything. May be a pipe, a socket or (runf) a FIFO. Invalid: there is no gate; create()
  /// returns when the program was executed, or with the error that kept it from that.
  sys::FdRef gate;
  /// The write end of a pipe. After the gate it gets nothing and is closed by a successful execve,
  /// or gets the sentence of the error that kept the program from being executed.
  sys::FdRef report;
  int preserve_fds = 0;
  bool fills_dev = true;  // devices and links in /dev; a program of the caller's may want none
  Cgroups cgroups = Cgroups::kMake;
  Newlines newlines = Newlines::kToNewLine;
  bool no_pivot = false;
  bool no_new_keyring = false;
  cgroup::Driver cgroup_driver = cgroup::Driver::kCgroupfs;
  std::optional<cgroup::Host> host;  // what cgroup::probe() said, by who has asked already
  UnitProperties unit_properties = UnitProperties::kObey;  // with kSystemd
  /// Called before anything of the container's runs, and again where the program gets a process of
  /// its own: the place to write down what Made says. What it said before counts no more.
  std::function<Result<>(const Made&)> on_made = {};
  /// Called once while the first process sets itself up: what the caller has to do anyway before
  /// create() returns, and the container can wait for. An error is create()'s.
  std::function<Result<>()> meanwhile = {};
  Deadline deadline = Deadline::never();
  /// Can be read once the caller wants the container no more: create() undoes what it has made and
  /// is kCancelled. Invalid: it always does.
  sys::FdRef stop = {};
};

struct Created {
  sys::Process init;
  uint64_t start_time = 0;  // start_time_of(init)
  sys::Fd console;          // the pty's master, with a terminal
  CgroupRecord cgroup;
  /// Without a mount namespace of its own: the mount of its root on the host, for release().
  uint64_t root_mount = 0;
  std::vector<std::string> warnings;  // what was asked for and could not be given, for the log
};

/// How the sentence begins that says why execve(2) did not execute the program: "exec /x: no such
/// file or directory".
inline constexpr std::string_view kNotExecuted = "exec ";

/// Makes everything up to the gate: cgroup, namespaces, mounts, identity. On error nothing is left.
/// Errors name the spec's field. A missing program in the image is reported here, not at start.
/// With kCallersParent the parent may also reap a process that it knows nothing of: the one that
/// set up, where the program needed a process of its own (a joined PID namespace). So with every
/// exec.
Result<Created> create(const CreateRequest& request);

struct ExecRequest {
  std::string id;
  std::string bundle;  // as it was at creation
  oci::Spec spec;      // of the container: its seccomp profile, namespaces, masks and annotations
  oci::Process process;
  pid_t init_pid = 0;
  uint64_t init_start_time = 0;  // checked: another process under the pid is kNotFound
  CgroupRecord cgroup;
  std::string below_cgroup;  // a cgroup below the container's, relative to it; empty: its own
  /// The same for single v1 controllers, by their names: "memory" to "sub".
  std::map<std::string, std::string> below_controllers;
  bool even_if_paused = false;   // wait until a paused container is resumed, instead of an error
  bool seen_not_paused = false;  // by the caller, just now: it is not asked again
  Program program;
  Stdio stdio;
  ParentOf parent = ParentOf::kCaller;
  Newlines newlines = Newlines::kToNewLine;
  int preserve_fds = 0;
  bool no_new_keyring = false;
  Deadline deadline = Deadline::never();
};
struct Executed {
  sys::Process process;
  sys::Fd console;
  std::vector<std::string> warnings;
};
/// Starts one more process in a container; returns once it has exec'd. A missing program is
/// kNotFound, one that may not be run kPermissionDenied.
Result<Executed> exec(const ExecRequest& request);

/// Every process of the container gets SIGKILL, through cgroup.kill or, on v1, frozen and by pidfd.
Result<> kill_all(const CgroupRecord& cgroup, Deadline deadline);
/// Waits for the cgroup to be empty (by event where the kernel gives one) and removes it, with its
/// children. Absent is success.
Result<> remove_cgroup(const CgroupRecord& cgroup, Deadline deadline);
/// kill_all() and remove_cgroup(): what is left of a container whose first process has ended.
Result<> end_cgroup(const CgroupRecord& cgroup, Deadline deadline);
/// What a container has on the host besides its cgroup: its resctrl groups, and the mount of its
/// root where it has no mount namespace of its own. Called once no process of it is left. Absent is
/// success.
Result<> release(const oci::Spec& spec, const std::string& id, const std::string& root_path,
                 uint64_t root_mount);
/// All or nothing: on an error the old values are put back.
Result<> update(const CgroupRecord& cgroup, const oci::Resources& resources);
/// Writes what `asked` names (l3CacheSchema, memBwSchema, schemata) for the class of the container
/// `id`, which was made with its closID.
Result<> update_schemata(const oci::IntelRdt& asked, const std::string& id);
/// Every process in the container's cgroup and below.
Result<std::vector<pid_t>> pids(const CgroupRecord& cgroup);

}  // namespace fluyt::runtime
