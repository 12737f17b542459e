#pragma once

#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "base/result.h"
#include "base/time.h"
#include "monitor/process/container_io.h"
#include "monitor/process/log_file.h"
#include "monitor/process/workers.h"
#include "monitor/protocol/messages.h"
#include "runtime/cgroup/cgroup.h"
#include "sys/fd.h"
#include "sys/process.h"

namespace fluyt::monitor {

struct CreatedContainer {
  ContainerInfo info;
  bool own_pid_namespace = true;
  sys::Process init;
  sys::Fd gate;    // invalid: it is started by ContainerRuntime::start()
  sys::Fd report;  // with a gate
  ContainerIo::Streams streams;
  std::optional<LogFile> log;
};

struct ExecInput {
  ContainerInfo container;
  sys::FdRef process;  // JSON
  bool terminal = false;
  sys::FdRef in;
  sys::FdRef out;
  sys::FdRef err;
};
struct StartedExec {
  sys::Process process;
  sys::Fd console;
};

/// What makes and ends a sandbox's containers: the runtime that the monitor links, or a program
/// with runc's command line. Everything here runs in a worker and may block until its deadline. The
/// processes that create() and exec() make are the monitor's children once the worker has ended.
class ContainerRuntime {
 public:
  virtual ~ContainerRuntime() = default;
  /// The container up to where it waits to be started. Announces its cgroup path, for undo(). On an
  /// error of its own nothing is left.
  virtual Result<WorkerReply> create(const CreateRequest& request, sys::FdRef spec,
                                     Deadline deadline, const Announce& announce) const = 0;
  /// Of a container without a gate.
  virtual Result<> start(const std::string& id, Deadline deadline) const = 0;
  virtual Result<WorkerReply> exec(const ExecInput& input, Deadline deadline) const = 0;
  /// To the first process, other than SIGKILL, which the monitor sends itself.
  virtual Result<> signal(const std::string& id, int signal, Deadline deadline) const = 0;
  virtual Result<> update(const ContainerInfo& container, sys::FdRef resources,
                          Deadline deadline) const = 0;
  /// What the request says, leaving the container running. Not to be broken off: it has no
  /// deadline.
  virtual Result<> checkpoint(const ContainerInfo& container,
                              const wire::Checkpoint& request) const = 0;
  /// Kills what is left of a container, and removes its cgroup and whatever the runtime keeps of
  /// it. The reply is a warning for the log, or empty.
  virtual Result<std::string> remove(const ContainerInfo& container, Deadline deadline) const = 0;
  /// What a create that was given up had made, as far as what it announced names it. `others` are
  /// the cgroups of live containers, which a wrong path must not hit.
  virtual Result<> undo(const std::string& id, const std::string& announced,
                        const std::vector<runtime::CgroupRecord>& others,
                        Deadline deadline) const = 0;
  /// Whether the monitor itself signals the first process, which is then nobody's but its own.
  virtual bool signals_by_pidfd() const = 0;
};

/// `host`: what runtime::cgroup::probe() said; asked by each create where it is not known.
std::unique_ptr<ContainerRuntime> make_linked_runtime(std::string state_dir,
                                                      std::optional<runtime::cgroup::Host> host);
std::unique_ptr<ContainerRuntime> make_program_runtime(std::string state_dir,
                                                       RuntimeProgram program);

/// Read what create() and exec() have replied.
Result<CreatedContainer> created_from(WorkerReply reply);
Result<StartedExec> exec_from(WorkerReply reply);

/// Removes a container's record, spec and what was said to a program.
void forget_files(const std::string& state_dir, const std::string& id);
std::string record_path(const std::string& state_dir, const std::string& id);

}  // namespace fluyt::monitor
