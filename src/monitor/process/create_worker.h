#pragma once

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

/// The parts of create, exec and update that run in a worker: they parse what came from fluytd and
/// call the runtime library.
namespace fluyt::monitor {

struct CreatedContainer {
  ContainerInfo info;
  bool own_pid_namespace = true;
  sys::Process init;
  sys::Fd gate;
  sys::Fd report;
  ContainerIo::Streams streams;
  std::optional<LogFile> log;
};
/// Makes the container up to its gate. Announces its cgroup path, for undo_create().
Result<WorkerReply> create_in_worker(const CreateRequest& request, sys::FdRef spec,
                                     const std::string& state_dir, Deadline deadline,
                                     const Announce& announce);
Result<CreatedContainer> created_from(WorkerReply reply);
/// What a worker that was given up had made: killed and removed as far as its cgroup names it.
/// `others` are the cgroups of live containers, which a wrong path must not hit.
Result<> undo_create(const std::string& id, const std::string& announced,
                     const std::vector<runtime::CgroupRecord>& others, const std::string& state_dir,
                     Deadline deadline);

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
Result<WorkerReply> exec_in_worker(const ExecInput& input, const std::string& state_dir,
                                   Deadline deadline);
Result<StartedExec> exec_from(WorkerReply reply);

Result<WorkerReply> update_in_worker(const ContainerInfo& container, sys::FdRef resources);

/// Removes a container's record and spec.
void forget_files(const std::string& state_dir, const std::string& id);
std::string record_path(const std::string& state_dir, const std::string& id);
std::string spec_path(const std::string& state_dir, const std::string& id);

}  // namespace fluyt::monitor
