#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "base/log.h"
#include "base/result.h"
#include "base/time.h"
#include "monitor/protocol/messages.h"
#include "sys/fd.h"

/// fluytd's side of the socket to a monitor. What is asked and told are the values of
/// monitor/protocol/messages.h.
namespace fluyt::monitor {

struct ExecRequest {
  std::string container_id;
  std::string process_json;  // oci::Process
  bool terminal = false;
  /// Pipe ends for the process, borrowed for the call: it writes into them itself. Without
  /// terminal.
  sys::FdRef in, out, err;
  int64_t start_deadline_ms = 30'000;
};
struct ExecStarted {
  uint64_t exec_id = 0;
  int32_t pid = 0;
  sys::Fd console;  // with terminal
};

struct CheckpointRequest {
  std::string id;
  std::string bundle;
  std::string folder;  // empty and the caller's: gets CRIU's images, dump.log and spec.dump
};

struct AttachRequest {
  std::string container_id;
  /// The monitor reads `in` and writes `out` and `err`; any may be invalid. With a terminal all
  /// output goes to `out`. Non-blocking; a reader that lags by more than 1 MiB is dropped.
  sys::FdRef in, out, err;
};

/// Told on the hub's thread: be short, never call back into a Client from here. An `exec_exited`
/// may come before exec() has returned to its caller: keep early ones by their id.
struct Events {
  std::function<void(const ContainerInfo&)>
      container_changed;  // started, exited (state persisted first), OOM
  std::function<void(uint64_t exec_id, int32_t exit_code)> exec_exited;
  /// The shared PID namespace is gone, and nothing new can be made in it. Not after shutdown().
  std::function<void()> pod_init_ended;
  /// The monitor is gone: its pidfd fired, or its socket could not be reached again. Told once, and
  /// not after shutdown().
  std::function<void()> lost;
};

/// One monitor. Calls may come from any thread, block until answered or until their deadline, and
/// do not block each other: the monitor never blocks on one container for another.
class Client {
 public:
  virtual ~Client() = default;
  virtual int32_t monitor_pid() const = 0;
  virtual Result<SandboxNamespaces> make_sandbox(const SandboxRequest& request,
                                                 Deadline deadline) = 0;
  /// The answer comes when the container waits at its gate. At the deadline the worker is killed
  /// and what it made undone.
  virtual Result<ContainerInfo> create(const CreateRequest& request) = 0;
  virtual Result<ContainerInfo> start(const std::string& id, Deadline deadline) = 0;
  /// To the first process, or to every process with `all`. An exited container is success. Where
  /// the monitor does not answer, because it is stopped or hangs, the signal is sent by its
  /// records; with SIGKILL it is then ended itself and lost. kDeadlineExceeded names the processes
  /// that the kernel does not kill: soon, when they stand still.
  virtual Result<> signal(const std::string& id, int signal, bool all) = 0;
  virtual Result<ExecStarted> exec(const ExecRequest& request) = 0;
  /// Kills an exec's process and what it started in its session.
  virtual Result<> kill_exec(uint64_t exec_id, int signal) = 0;
  virtual Result<> attach(const AttachRequest& request) = 0;
  virtual Result<> resize(const std::string& id, uint16_t height, uint16_t width) = 0;
  virtual Result<> reopen_log(const std::string& id) = 0;
  virtual Result<> update(const std::string& id, const std::string& resources_json) = 0;
  /// Kills what is left, removes the cgroup and forgets the container. Unknown is success.
  virtual Result<> remove(const std::string& id, Deadline deadline) = 0;
  /// Through CRIU; the container goes on whatever happens. At the deadline the caller is told so,
  /// and what is written after it is removed: a dump cannot be broken off. kFailedPrecondition
  /// where there is no criu, kUnimplemented when the monitor is of a release that cannot.
  virtual Result<> checkpoint(const CheckpointRequest& request, Deadline deadline) = 0;
  virtual Result<std::vector<ContainerInfo>> list() = 0;
  /// Ends the sandbox: every container killed and removed, pod init ended, namespaces unmounted,
  /// the socket removed, the monitor gone. Returns when it is.
  virtual Result<> shutdown(Deadline deadline) = 0;
  /// The monitor's release, as it said itself.
  virtual std::string program() const = 0;
  /// Has it become the program `monitor` in place: its pid, its containers, their output and
  /// whoever is attached stay. Returns when the new one answers. kUnavailable while a worker is
  /// about something, or an answer is owed: ask again. kUnimplemented when its release cannot. On
  /// an error the old one goes on.
  virtual Result<> replace(sys::FdRef monitor, sys::FdRef pod_init, Deadline deadline) = 0;
  /// The monitor is gone or given up: no answer comes any more, and no event.
  virtual bool lost() const = 0;
};

struct LaunchOptions {
  std::string monitor_program;  // fluyt-monitor; started through a detached read-only mount
  std::string pod_init_program;
  std::string sandbox_id;
  std::string state_dir;  // the sandbox's own: socket, namespaces, container records; made 0700
  std::string cgroup;     // leaf for the monitor below the engine's, "" to stay where we are
};

/// All monitors' sockets on one thread.
class Hub {
 public:
  static Result<std::unique_ptr<Hub>> create(Logger& logger);
  virtual ~Hub() = default;
  /// Starts a monitor that is not our child (it outlives us) and says hello.
  virtual Result<std::shared_ptr<Client>> launch(const LaunchOptions& options, Events events) = 0;
  /// Finds the monitor of an earlier fluytd by its socket in `state_dir`. kNotFound when it is
  /// gone; what the exited containers' records there say can still be read by read_records().
  virtual Result<std::shared_ptr<Client>> adopt(const std::string& sandbox_id,
                                                const std::string& state_dir, Events events) = 0;
  /// Client::replace() with the programs of `options`, unless it is of our release already: then
  /// false.
  virtual Result<bool> renew(Client& client, const LaunchOptions& options, Deadline deadline) = 0;
};

/// The exit records in a dead monitor's state folder.
Result<std::vector<ContainerInfo>> read_records(const std::string& state_dir);
/// The OCI specification that a container was made by, JSON; without the environment where the
/// linked runtime made it. `bundle` is CreateRequest's. kNotFound when it is removed.
Result<std::string> read_spec(const std::string& state_dir, const std::string& bundle,
                              const std::string& container_id);
/// Whether the sandbox had a pod init that does not run any more: what pod_init_ended would have
/// told, for whoever was not there.
Result<bool> lacks_pod_init(const std::string& state_dir);
/// Ends by pidfd, cgroup and unmount what a dead monitor left, and removes its state folder. Where
/// the kernel does not kill a process, the others are ended all the same, the folder stays, and the
/// error, kDeadlineExceeded, names it: as soon as all that is left stands still.
Result<> clean_after(const std::string& state_dir, Deadline deadline);

}  // namespace fluyt::monitor
