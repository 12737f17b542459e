#include "monitor/process/runtime_parts.h"

#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <utility>

#include "base/strings.h"
#include "monitor/protocol/cgroup.h"
#include "monitor/protocol/state_folder.h"

namespace fluyt::monitor {

namespace {

// What of a container is there, as the letters before its record in the worker's reply; the
// descriptors come in this order.
constexpr char kHasGate = 'g';
constexpr char kHasLog = 'l';
constexpr char kHasConsole = 't';
constexpr char kHasStdin = 'i';
constexpr char kOwnPids = 'p';

// Nobody else reaches it: a pipe has no name but in the process's own folder of /proc.
Result<sys::Pipe> make_stdio_pipe() {
  sys::Pipe pipe = FLUYT_TRY(sys::make_pipe());
  if (fchmod(pipe.write.raw(), 0666) != 0) return Error::from_errno(errno, "fchmod(pipe)");
  return pipe;
}

std::string container_file(const std::string& state_dir, const std::string& id,
                           std::string_view suffix) {
  return cat(state_dir, "/", kContainerFolder, "/", id, suffix);
}

// A runtime program may have made it in fewer hierarchies than we would.
bool share_directory(const runtime::CgroupRecord& one, const runtime::CgroupRecord& other) {
  if (!one.unified.empty() && one.unified == other.unified) return true;
  return std::any_of(one.legacy.begin(), one.legacy.end(), [&](const auto& directory) {
    return std::find(other.legacy.begin(), other.legacy.end(), directory) != other.legacy.end();
  });
}

}  // namespace

Result<std::string> read_memfd(sys::FdRef memfd, size_t limit) {
  // The offset is shared with whoever sent it.
  if (lseek(memfd.raw(), 0, SEEK_SET) != 0) return Error::from_errno(errno, "lseek(memfd)");
  return sys::read_all(memfd, limit);
}

Result<StdioPipes> make_stdio(const CreateRequest& request) {
  StdioPipes pipes;
  if (request.open_stdin) pipes.in = FLUYT_TRY(make_stdio_pipe());
  pipes.out = FLUYT_TRY(make_stdio_pipe());
  pipes.err = FLUYT_TRY(make_stdio_pipe());
  return pipes;
}

Result<sys::Fd> open_log_of(const CreateRequest& request) {
  if (request.log_directory.empty() && request.log_path.empty()) return sys::Fd();
  return open_log(request.log_directory, request.log_path);
}

Result<> announce_record(const std::string& id, const runtime::CgroupRecord& cgroup,
                         const std::string& state_dir) {
  ContainerInfo info{.id = id};
  put_cgroup(cgroup, info);
  return sys::write_file_atomic(sys::kCwd, record_path(state_dir, id), encode_record(info), 0600);
}

WorkerReply reply_of(MadeContainer made) {
  std::string flags;
  WorkerReply reply;
  auto add = [&](char flag, sys::Fd& fd) {
    if (!fd.valid()) return;
    flags += flag;
    reply.fds.push_back(std::move(fd));
  };
  reply.fds.push_back(made.init.release_pidfd());
  if (made.gate.valid()) {
    add(kHasGate, made.gate);
    reply.fds.push_back(std::move(made.report));
  }
  add(kHasLog, made.log);
  if (made.console.valid()) {
    add(kHasConsole, made.console);
  } else {
    reply.fds.push_back(std::move(made.stdio.out.read));
    reply.fds.push_back(std::move(made.stdio.err.read));
    add(kHasStdin, made.stdio.in.write);
  }
  if (made.own_pid_namespace) flags += kOwnPids;
  reply.text = cat(flags, " ", encode_record(made.info));
  return reply;
}

Result<CreatedContainer> created_from(WorkerReply reply) {
  const size_t space = reply.text.find(' ');
  if (space == std::string::npos) return Error(Code::kInternal, "the worker's reply has no record");
  const std::string flags = reply.text.substr(0, space);
  auto has = [&](char flag) { return flags.find(flag) != std::string::npos; };
  CreatedContainer created;
  created.info = FLUYT_TRY(decode_record(std::string_view(reply.text).substr(space + 1)));
  created.own_pid_namespace = has(kOwnPids);
  const size_t expected = 1 + (has(kHasGate) ? 2 : 0) + (has(kHasLog) ? 1 : 0) +
                          (has(kHasConsole) ? 1 : 2) + (has(kHasStdin) ? 1 : 0);
  if (reply.fds.size() != expected)
    return Error(Code::kInternal, "the worker's reply lacks descriptors");
  auto next = reply.fds.begin();
  created.init = sys::Process(created.info.pid, std::move(*next++));
  if (has(kHasGate)) {
    created.gate = std::move(*next++);
    created.report = std::move(*next++);
  }
  if (has(kHasLog)) created.log.emplace(std::move(*next++));
  if (has(kHasConsole)) {
    created.streams.console = std::move(*next++);
  } else {
    created.streams.out = std::move(*next++);
    created.streams.err = std::move(*next++);
    if (has(kHasStdin)) created.streams.in = std::move(*next++);
  }
  return created;
}

WorkerReply reply_of(StartedExec started) {
  WorkerReply reply{cat(started.process.pid()), {}};
  reply.fds.push_back(started.process.release_pidfd());
  if (started.console.valid()) reply.fds.push_back(std::move(started.console));
  return reply;
}

Result<StartedExec> exec_from(WorkerReply reply) {
  const auto pid = parse_number<pid_t>(reply.text);
  if (!pid || reply.fds.empty())
    return Error(Code::kInternal, "the worker's reply names no process");
  StartedExec started{.process = sys::Process(*pid, std::move(reply.fds[0])), .console = {}};
  if (reply.fds.size() > 1) started.console = std::move(reply.fds[1]);
  return started;
}

bool has_own_pids(const oci::Spec& spec) {
  if (!spec.linux_) return false;
  return std::any_of(spec.linux_->namespaces.begin(), spec.linux_->namespaces.end(),
                     [](const oci::Namespace& ns) {
                       return ns.type == oci::NamespaceType::kPid && ns.path.empty();
                     });
}

bool has_terminal(const oci::Spec& spec) { return spec.process && spec.process->terminal; }

Result<> check_terminal(const oci::Process& process, const ExecInput& input) {
  if (process.terminal == input.terminal) return {};
  return Error(Code::kInvalidArgument,
               "process.terminal: expected the same as the request's terminal");
}

std::string record_path(const std::string& state_dir, const std::string& id) {
  return container_file(state_dir, id, kRecordSuffix);
}
std::string spec_path(const std::string& state_dir, const std::string& id) {
  return container_file(state_dir, id, kSpecSuffix);
}
std::string call_folder(const std::string& state_dir, const std::string& id) {
  return container_file(state_dir, id, kCallSuffix);
}

void forget_files(const std::string& state_dir, const std::string& id) {
  for (const std::string& path : {record_path(state_dir, id), spec_path(state_dir, id)}) {
    sys::remove_file(sys::kCwd, path).ignore("the sandbox's end removes the folder");
  }
  sys::remove_tree(call_folder(state_dir, id)).ignore("the sandbox's end removes the folder");
}

Result<> end_announced(const std::string& id, const std::string& announced,
                       const std::vector<runtime::CgroupRecord>& others, Deadline deadline) {
  const auto host = FLUYT_TRY(runtime::cgroup::probe());
  const auto cgroup = FLUYT_TRY(
      runtime::cgroup::locate(host, announced, id, runtime::cgroup::driver_of(announced)));
  if (std::any_of(others.begin(), others.end(),
                  [&](const auto& other) { return share_directory(other, cgroup); })) {
    return Error(Code::kFailedPrecondition, "its cgroup is another container's");
  }
  return runtime::cgroup::end(cgroup, deadline);
}

}  // namespace fluyt::monitor
