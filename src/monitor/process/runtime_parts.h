#pragma once

#include <string>
#include <vector>

#include "base/result.h"
#include "monitor/process/container_runtime.h"
#include "oci/runtime_spec.h"
#include "sys/fd.h"
#include "sys/file.h"

/// What both kinds of ContainerRuntime do alike.
namespace fluyt::monitor {

Result<std::string> read_memfd(sys::FdRef memfd, size_t limit);

/// A container's pipes. The payload may open their write ends again as /dev/stdout, whichever user
/// it has become.
struct StdioPipes {
  sys::Pipe in;  // with open_stdin
  sys::Pipe out;
  sys::Pipe err;
};
Result<StdioPipes> make_stdio(const CreateRequest& request);
/// Invalid where the request has no log.
Result<sys::Fd> open_log_of(const CreateRequest& request);

/// Writes the record of a container that is being made: when monitor and worker die, its cgroup is
/// to be found.
Result<> announce_record(const std::string& id, const runtime::CgroupRecord& cgroup,
                         const std::string& state_dir);

/// What a create has made, as the reply that created_from() reads.
struct MadeContainer {
  ContainerInfo info;
  bool own_pid_namespace = true;
  sys::Process init;
  sys::Fd gate;
  sys::Fd report;
  sys::Fd log;
  sys::Fd console;  // with a terminal, in place of the pipes
  StdioPipes stdio;
};
WorkerReply reply_of(MadeContainer made);
WorkerReply reply_of(StartedExec started);

bool has_own_pids(const oci::Spec& spec);
bool has_terminal(const oci::Spec& spec);
/// The process must say of a terminal what the request says.
Result<> check_terminal(const oci::Process& process, const ExecInput& input);

std::string spec_path(const std::string& state_dir, const std::string& id);
/// The folder of what is said to and by a runtime program.
std::string call_folder(const std::string& state_dir, const std::string& id);

/// Kills and removes the cgroup that a create has announced, unless it is one of `others`.
Result<> end_announced(const std::string& id, const std::string& announced,
                       const std::vector<runtime::CgroupRecord>& others, Deadline deadline);

}  // namespace fluyt::monitor
