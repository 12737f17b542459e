#include "monitor/process/create_worker.h"

#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <utility>

#include "base/strings.h"
#include "monitor/protocol/state_folder.h"
#include "oci/runtime_spec.h"
#include "runtime/container.h"
#include "sys/file.h"

namespace fluyt::monitor {

namespace {

// What of a container is there, as the letters before its record in the worker's reply; the
// descriptors come in this order.
constexpr char kHasLog = 'l';
constexpr char kHasConsole = 't';
constexpr char kHasStdin = 'i';
constexpr char kOwnPids = 'p';

Result<std::string> read_memfd(sys::FdRef memfd, size_t limit) {
  // The offset is shared with whoever sent it.
  if (lseek(memfd.raw(), 0, SEEK_SET) != 0) return Error::from_errno(errno, "lseek(memfd)");
  return sys::read_all(memfd, limit);
}

bool has_own_pids(const oci::Spec& spec) {
  if (!spec.linux_) return false;
  return std::any_of(spec.linux_->namespaces.begin(), spec.linux_->namespaces.end(),
                     [](const oci::Namespace& ns) {
                       return ns.type == oci::NamespaceType::kPid && ns.path.empty();
                     });
}

// A pipe that the payload may open again as /dev/stdout, whichever user it has become. Nobody else
// reaches it: a pipe has no name but in the process's own folder of /proc.
Result<sys::Pipe> make_stdio_pipe() {
  sys::Pipe pipe = FLUYT_TRY(sys::make_pipe());
  if (fchmod(pipe.write.raw(), 0666) != 0) return Error::from_errno(errno, "fchmod(pipe)");
  return pipe;
}

struct StdioPipes {
  sys::Pipe in;
  sys::Pipe out;
  sys::Pipe err;
};
Result<StdioPipes> make_stdio(const CreateRequest& request) {
  StdioPipes pipes;
  if (request.open_stdin) pipes.in = FLUYT_TRY(make_stdio_pipe());
  pipes.out = FLUYT_TRY(make_stdio_pipe());
  pipes.err = FLUYT_TRY(make_stdio_pipe());
  return pipes;
}

// For exec, which needs the profile, namespaces and masks, but not the secrets of the environment.
Result<> keep_spec(const oci::Spec& spec, const std::string& path) {
  oci::Spec kept = spec;
  if (kept.process) kept.process->env.clear();
  return sys::write_file_atomic(sys::kCwd, path, oci::to_json(kept), 0600);
}

Result<> announce_record(const std::string& id, const std::string& cgroups_path,
                         const std::string& state_dir) {
  const auto host = FLUYT_TRY(runtime::cgroup::probe());
  const auto cgroup =
      FLUYT_TRY_CONTEXT(runtime::cgroup::locate(host, cgroups_path, id), "linux.cgroupsPath");
  ContainerInfo info{.id = id};
  info.cgroup_unified = cgroup.unified;
  info.cgroup_legacy = cgroup.legacy;
  return sys::write_file_atomic(sys::kCwd, record_path(state_dir, id), encode_record(info), 0600);
}

}  // namespace

std::string record_path(const std::string& state_dir, const std::string& id) {
  return cat(state_dir, "/", kContainerFolder, "/", id, kRecordSuffix);
}
std::string spec_path(const std::string& state_dir, const std::string& id) {
  return cat(state_dir, "/", kContainerFolder, "/", id, kSpecSuffix);
}

void forget_files(const std::string& state_dir, const std::string& id) {
  for (const std::string& path : {record_path(state_dir, id), spec_path(state_dir, id)}) {
    sys::remove_file(sys::kCwd, path).ignore("the sandbox's end removes the folder");
  }
}

Result<WorkerReply> create_in_worker(const CreateRequest& request, sys::FdRef spec,
                                     const std::string& state_dir, Deadline deadline,
                                     const Announce& announce) {
  runtime::CreateRequest create;
  create.id = request.id;
  create.bundle = request.bundle;
  create.spec =
      FLUYT_TRY_CONTEXT(oci::parse_spec(FLUYT_TRY(read_memfd(spec, oci::kMaxSpecBytes))), "spec");
  create.overlay_root = request.root;
  create.parent = runtime::ParentOf::kCallersParent;
  create.deadline = deadline;
  const std::string cgroups_path =
      create.spec.linux_ ? create.spec.linux_->cgroups_path : std::string();
  announce(cgroups_path);

  std::string flags;
  sys::Fd log;
  if (!request.log_directory.empty() || !request.log_path.empty()) {
    log = FLUYT_TRY(open_log(request.log_directory, request.log_path));
    flags += kHasLog;
  }
  const bool terminal = create.spec.process && create.spec.process->terminal;
  StdioPipes stdio;
  if (!terminal) {
    stdio = FLUYT_TRY(make_stdio(request));
    create.stdio = {.in = stdio.in.read, .out = stdio.out.write, .err = stdio.err.write};
  }
  sys::Pipe gate = FLUYT_TRY(sys::make_pipe());
  sys::Pipe report = FLUYT_TRY(sys::make_pipe());
  create.gate = gate.read;
  create.report = report.write;
  // Both files before the container: one that runs can always be exec'd into, and one that is half
  // made when monitor and worker die has its cgroup on record.
  FLUYT_TRY(keep_spec(create.spec, spec_path(state_dir, request.id)));
  FLUYT_TRY(announce_record(request.id, cgroups_path, state_dir));
  auto made = runtime::create(create);
  if (!made.ok()) {
    forget_files(state_dir, request.id);
    return std::move(made).error();
  }
  runtime::Created& created = *made;

  ContainerInfo info{.id = request.id, .pid = created.init.pid(), .created_at = now_unix_ns()};
  info.pid_start_time = created.start_time;
  info.cgroup_unified = created.cgroup.unified;
  info.cgroup_legacy = created.cgroup.legacy;
  if (terminal) flags += kHasConsole;
  if (!terminal && request.open_stdin) flags += kHasStdin;
  if (has_own_pids(create.spec)) flags += kOwnPids;
  WorkerReply reply{cat(flags, " ", encode_record(info)), {}};
  reply.fds.push_back(created.init.release_pidfd());
  reply.fds.push_back(std::move(gate.write));
  reply.fds.push_back(std::move(report.read));
  if (log.valid()) reply.fds.push_back(std::move(log));
  if (terminal) {
    reply.fds.push_back(std::move(created.console));
  } else {
    reply.fds.push_back(std::move(stdio.out.read));
    reply.fds.push_back(std::move(stdio.err.read));
    if (request.open_stdin) reply.fds.push_back(std::move(stdio.in.write));
  }
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
  const size_t expected =
      3 + (has(kHasLog) ? 1 : 0) + (has(kHasConsole) ? 1 : 2) + (has(kHasStdin) ? 1 : 0);
  if (reply.fds.size() != expected)
    return Error(Code::kInternal, "the worker's reply lacks descriptors");
  auto next = reply.fds.begin();
  created.init = sys::Process(created.info.pid, std::move(*next++));
  created.gate = std::move(*next++);
  created.report = std::move(*next++);
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

Result<> undo_create(const std::string& id, const std::string& announced,
                     const std::vector<runtime::CgroupRecord>& others, const std::string& state_dir,
                     Deadline deadline) {
  const auto host = FLUYT_TRY(runtime::cgroup::probe());
  const auto cgroup = FLUYT_TRY(runtime::cgroup::locate(host, announced, id));
  if (std::find(others.begin(), others.end(), cgroup) != others.end()) {
    return Error(Code::kFailedPrecondition, "its cgroup is another container's");
  }
  FLUYT_TRY(runtime::cgroup::end(cgroup, deadline));
  forget_files(state_dir, id);
  return {};
}

Result<WorkerReply> exec_in_worker(const ExecInput& input, const std::string& state_dir,
                                   Deadline deadline) {
  runtime::ExecRequest exec;
  exec.id = input.container.id;
  exec.process = FLUYT_TRY_CONTEXT(
      oci::parse_process(FLUYT_TRY(read_memfd(input.process, oci::kMaxSpecBytes))), "process");
  if (exec.process.terminal != input.terminal) {
    return Error(Code::kInvalidArgument,
                 "process.terminal: expected the same as the request's terminal");
  }
  exec.spec = FLUYT_TRY(oci::parse_spec(
      FLUYT_TRY(sys::read_file(spec_path(state_dir, exec.id), oci::kMaxSpecBytes))));
  exec.init_pid = input.container.pid;
  exec.init_start_time = input.container.pid_start_time;
  exec.cgroup = {.unified = input.container.cgroup_unified,
                 .legacy = input.container.cgroup_legacy};
  exec.stdio = {.in = input.in, .out = input.out, .err = input.err};
  exec.parent = runtime::ParentOf::kCallersParent;
  exec.deadline = deadline;
  auto executed = FLUYT_TRY(runtime::exec(exec));
  WorkerReply reply{cat(executed.process.pid()), {}};
  reply.fds.push_back(executed.process.release_pidfd());
  if (executed.console.valid()) reply.fds.push_back(std::move(executed.console));
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

Result<WorkerReply> update_in_worker(const ContainerInfo& container, sys::FdRef resources) {
  const auto parsed = FLUYT_TRY_CONTEXT(
      oci::parse_resources(FLUYT_TRY(read_memfd(resources, oci::kMaxSpecBytes))), "resources");
  FLUYT_TRY(runtime::update(
      {.unified = container.cgroup_unified, .legacy = container.cgroup_legacy}, parsed));
  return WorkerReply{};
}

}  // namespace fluyt::monitor
