#include <fcntl.h>
#include <poll.h>
#include <sched.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <utility>

#include "base/strings.h"
#include "base/time.h"
#include "monitor/process/container_runtime.h"
#include "monitor/process/propagation.h"
#include "monitor/process/runtime_parts.h"
#include "monitor/program/call.h"
#include "monitor/program/cleanup.h"
#include "monitor/protocol/cgroup.h"
#include "monitor/protocol/state_folder.h"
#include "oci/runtime_spec.h"
#include "sys/clone.h"
#include "sys/file.h"
#include "sys/mount.h"
#include "sys/socket.h"

/// A program with runc's command line. The worker calls it, adopts the processes that it leaves,
/// and by ending makes them the monitor's children.
namespace fluyt::monitor {

namespace {

constexpr int64_t kUndoMs = 5'000;
/// What every program reads: older ones refuse what they do not know by its number (crun 1.8 all
/// from 1.1 on), newer ones do not ask it which fields may be there.
constexpr const char* kSpecVersion = "1.0.2";

runtime::CgroupRecord cgroup_of(const ContainerInfo& info) {
  return cgroup_in<runtime::CgroupRecord>(info);
}

// Where a program sends a terminal's master. Its path is short whatever our folders are called:
// sun_path takes 107 bytes.
class ConsoleSocket {
 public:
  static Result<ConsoleSocket> create(const std::string& folder, const std::string& name) {
    ConsoleSocket made;
    made.folder_ = FLUYT_TRY(sys::open(folder, O_PATH | O_DIRECTORY));
    made.path_ = cat("/proc/", getpid(), "/fd/", made.folder_.raw(), "/", name);
    made.listener_ = FLUYT_TRY(sys::listen_unix(made.path_, SOCK_STREAM, 0600));
    return made;
  }
  const std::string& path() const { return path_; }
  /// After the program has ended: what it has sent lies there.
  Result<sys::Fd> take() const {
    pollfd entry{.fd = listener_.raw(), .events = POLLIN, .revents = 0};
    if (poll(&entry, 1, 0) != 1)
      return Error(Code::kInternal, "the program has sent no terminal to its --console-socket");
    const sys::Fd peer = FLUYT_TRY(sys::accept_from(listener_));
    FLUYT_TRY(sys::set_nonblocking(peer, true));
    std::array<char, 4096> name;
    auto received = FLUYT_TRY(sys::receive_with_fds(peer, name.data(), name.size()));
    sys::remove_file(sys::kCwd, path_).ignore("it goes with its folder");
    if (received.fds.size() != 1 || isatty(received.fds[0].raw()) == 0) {
      return Error(Code::kInternal,
                   cat("the program sent ", received.fds.size(),
                       " descriptors to its --console-socket: expected one, a terminal"));
    }
    return std::move(received.fds[0]);
  }

 private:
  sys::Fd folder_;
  std::string path_;
  sys::Fd listener_;
};

// What the located cgroup has of the container's first process: a program decides for itself which
// hierarchies it uses.
Result<runtime::CgroupRecord> cgroup_with(const runtime::CgroupRecord& located, pid_t pid) {
  auto holds = [&](const runtime::CgroupRecord& record) -> Result<bool> {
    const auto pids = FLUYT_TRY(runtime::cgroup::pids(record));
    return std::find(pids.begin(), pids.end(), pid) != pids.end();
  };
  runtime::CgroupRecord found;
  found.unit = located.unit;
  if (!located.unified.empty() && FLUYT_TRY(holds({.unified = located.unified, .legacy = {}})))
    found.unified = located.unified;
  for (const auto& directory : located.legacy) {
    if (FLUYT_TRY(holds({.unified = {}, .legacy = {directory}}))) found.legacy.push_back(directory);
  }
  return found;
}

// Nobody is killed here: a wrong path may lead to another container's.
void drop_empty_cgroup(const std::string& id, const std::string& cgroups_path) {
  const auto host = runtime::cgroup::probe();
  if (!host.ok()) return;
  const auto located =
      runtime::cgroup::locate(*host, cgroups_path, id, runtime::cgroup::driver_of(cgroups_path));
  if (!located.ok()) return;
  runtime::cgroup::remove(*located, Deadline::after_ms(0))
      .ignore("one that is in use stays, and the error that led here is the one to tell");
}

class ProgramRuntime final : public ContainerRuntime {
 public:
  ProgramRuntime(std::string state_dir, RuntimeProgram program)
      : state_dir_(std::move(state_dir)), program_(std::move(program)) {}

  Result<WorkerReply> create(const CreateRequest& request, sys::FdRef spec, Deadline deadline,
                             const Announce& announce) const override;
  Result<> start(const std::string& id, Deadline deadline) const override;
  Result<WorkerReply> exec(const ExecInput& input, Deadline deadline) const override;
  Result<> signal(const std::string& id, int signal, Deadline deadline) const override;
  Result<> update(const ContainerInfo& container, sys::FdRef resources,
                  Deadline deadline) const override;
  Result<> checkpoint(const ContainerInfo& container,
                      const wire::Checkpoint& /*request*/) const override {
    return Error(Code::kUnimplemented,
                 cat("container ", container.id, ": its runtime is ", quote(program_.path, 1024),
                     ", and only runf's containers can be checkpointed"));
  }
  Result<std::string> remove(const ContainerInfo& container, Deadline deadline) const override;
  Result<> undo(const std::string& id, const std::string& announced,
                const std::vector<runtime::CgroupRecord>& others, Deadline deadline) const override;
  bool signals_by_pidfd() const override { return false; }

 private:
  Result<CallFiles> files_of(const std::string& id) const;
  Result<> mount_trees(const CreateRequest& request, oci::Spec& spec) const;
  Result<> mount_root(const CreateRequest& request, oci::Spec& spec) const;
  Result<MadeContainer> make(const CreateRequest& request, oci::Spec spec, Deadline deadline) const;
  Result<> call(Words words, const CallFiles& files, Deadline deadline, sys::FdRef input) const;

  const std::string state_dir_;
  const RuntimeProgram program_;
};

// Of this worker: others may call the program for the same container at the same time.
Result<CallFiles> ProgramRuntime::files_of(const std::string& id) const {
  const std::string folder = call_folder(state_dir_, id);
  FLUYT_TRY(sys::make_dirs(folder, 0700));
  FLUYT_TRY_CONTEXT(sys::make_dirs(program_.root, 0700), "the runtime's root");
  return CallFiles{.log = cat(folder, "/log.", getpid()),
                   .pid = cat(folder, "/pid.", getpid()),
                   .console_socket = {}};
}

Result<> mount_tree(const sys::OverlayMount& tree, const std::string& path) {
  FLUYT_TRY(sys::make_dirs(path, 0711));
  const sys::Fd mount = FLUYT_TRY(sys::make_overlay(tree));
  const sys::Fd place = FLUYT_TRY(sys::open(path, O_PATH | O_DIRECTORY | O_NOFOLLOW));
  return sys::attach_mount(mount, place);
}

// The trees that stand for sources of binds, where a program finds them by a path.
Result<> ProgramRuntime::mount_trees(const CreateRequest& request, oci::Spec& spec) const {
  size_t count = 0;
  for (oci::Mount& mount : spec.mounts) {
    const auto tree = request.trees.find(mount.source);
    if (mount.type != "bind" || tree == request.trees.end()) continue;
    const std::string path = cat(state_dir_, "/", kNamespaceFolder, "/", kTreeFolder, "/", count++);
    FLUYT_TRY_CONTEXT(mount_tree(tree->second, path),
                      cat("mounts: ", quote(mount.destination, 1024)));
    mount.source = path;
  }
  return {};
}

// The way to what is mounted below it, for a program that walks it as a user namespace's root. What
// lies on that way has names that nobody may list, and modes of its own.
Result<> open_way(const std::string& state_dir) {
  for (const std::string& folder : {state_dir, cat(state_dir, "/", kNamespaceFolder)}) {
    if (chmod(folder.c_str(), 0711) != 0)
      return Error::from_errno(errno, cat("chmod(", quote(folder, 1024), ")"));
  }
  return {};
}

// In a mount namespace of this worker and of what it starts, on the folder whose mount is private:
// the host never has the mount, and propagation from and to the host's other mounts stays as it is.
Result<> ProgramRuntime::mount_root(const CreateRequest& request, oci::Spec& spec) const {
  const bool plain = request.root && request.root->lower_dirs.empty() && request.root->ids.empty();
  if (request.root && !request.root->ids.empty()) FLUYT_TRY(open_way(state_dir_));
  if ((request.root && !plain) || !request.trees.empty())
    FLUYT_TRY(sys::unshare_namespaces(CLONE_NEWNS));
  FLUYT_TRY(mount_trees(request, spec));
  if (!request.root) return {};
  std::string path = cat(state_dir_, "/", kNamespaceFolder, "/", kRootFolder);
  if (plain) {
    path = request.root->upper_dir;
  } else {
    FLUYT_TRY(mount_tree(*request.root, path));
  }
  if (!spec.root) spec.root.emplace();
  // Programs refuse a root with links on the way.
  const sys::Fd root = FLUYT_TRY(sys::open(path, O_PATH | O_DIRECTORY));
  spec.root->path = FLUYT_TRY(sys::read_link(sys::kCwd, cat("/proc/self/fd/", root.raw())));
  return {};
}

Result<WorkerReply> ProgramRuntime::create(const CreateRequest& request, sys::FdRef spec_file,
                                           Deadline deadline, const Announce& announce) const {
  oci::Spec spec = FLUYT_TRY_CONTEXT(
      oci::parse_spec(FLUYT_TRY(read_memfd(spec_file, oci::kMaxSpecBytes))), "spec");
  FLUYT_TRY(check_propagation(spec));
  const std::string cgroups_path = spec.linux_ ? spec.linux_->cgroups_path : std::string();
  announce(cgroups_path);
  auto made = make(request, std::move(spec), deadline);
  if (made.ok()) return reply_of(std::move(*made));
  // What a program had made before it failed it has taken back, or not.
  end_adopted();
  delete_with_program(program_, request.id, Deadline::after_ms(kUndoMs))
      .ignore("the error that led here is the one to tell");
  drop_empty_cgroup(request.id, cgroups_path);
  forget_files(state_dir_, request.id);
  return std::move(made).error();
}

Result<MadeContainer> ProgramRuntime::make(const CreateRequest& request, oci::Spec spec,
                                           Deadline deadline) const {
  FLUYT_TRY(adopt_orphans());
  MadeContainer made;
  made.info = {.id = request.id};
  made.own_pid_namespace = has_own_pids(spec);
  made.log = FLUYT_TRY(open_log_of(request));
  CallFiles files = FLUYT_TRY(files_of(request.id));
  std::optional<ConsoleSocket> console;
  if (has_terminal(spec)) {
    console = FLUYT_TRY(
        ConsoleSocket::create(call_folder(state_dir_, request.id), cat("console.", getpid())));
    files.console_socket = console->path();
  } else {
    made.stdio = FLUYT_TRY(make_stdio(request));
  }
  const auto host = FLUYT_TRY(runtime::cgroup::probe());
  const std::string cgroups_path = spec.linux_ ? spec.linux_->cgroups_path : std::string();
  const auto located =
      FLUYT_TRY_CONTEXT(runtime::cgroup::locate(host, cgroups_path, request.id,
                                                runtime::cgroup::driver_of(cgroups_path)),
                        "linux.cgroupsPath");
  FLUYT_TRY_CONTEXT(mount_root(request, spec), "root");
  spec.oci_version = kSpecVersion;
  // It stays until the container's folder goes: some programs read it again for start and exec.
  FLUYT_TRY(sys::write_file_atomic(sys::kCwd, cat(request.bundle, "/", kConfigFile),
                                   oci::to_json(spec), 0600));
  FLUYT_TRY(announce_record(request.id, located, state_dir_));

  ProgramCall call;
  call.words = create_command(program_, files, request.id, request.bundle);
  call.in = made.stdio.in.read;
  call.out = made.stdio.out.write;
  call.err = made.stdio.err.write;
  call.log = files.log;
  call.err_tail = made.stdio.err.read;
  FLUYT_TRY(call_program(call, deadline));
  made.init = FLUYT_TRY(adopted_process(files.pid));
  if (console) made.console = FLUYT_TRY(console->take());

  made.info.pid = made.init.pid();
  made.info.created_at = now_unix_ns();
  made.info.pid_start_time = FLUYT_TRY(sys::start_time_of(made.init.pid()));
  const auto cgroup = FLUYT_TRY(cgroup_with(located, made.init.pid()));
  put_cgroup(cgroup, made.info);
  return made;
}

// With no streams of the container: what the program prints is kept for the error.
Result<> ProgramRuntime::call(Words words, const CallFiles& files, Deadline deadline,
                              sys::FdRef input) const {
  FLUYT_TRY(adopt_orphans());
  const sys::Fd printed(memfd_create("printed", MFD_CLOEXEC));
  if (!printed.valid()) return Error::from_errno(errno, "memfd_create()");
  ProgramCall call;
  call.words = std::move(words);
  call.out = printed;
  call.err = printed;
  call.input = input;
  call.log = files.log;
  call.err_tail = printed;
  return call_program(call, deadline);
}

Result<> ProgramRuntime::start(const std::string& id, Deadline deadline) const {
  const CallFiles files = FLUYT_TRY(files_of(id));
  return call(start_command(program_, files, id), files, deadline, {});
}

Result<> ProgramRuntime::signal(const std::string& id, int signal, Deadline deadline) const {
  const CallFiles files = FLUYT_TRY(files_of(id));
  return call(kill_command(program_, files, id, signal), files, deadline, {});
}

Result<> ProgramRuntime::update(const ContainerInfo& container, sys::FdRef resources,
                                Deadline deadline) const {
  const CallFiles files = FLUYT_TRY(files_of(container.id));
  return call(update_command(program_, files, container.id, kInputPath), files, deadline,
              resources);
}

Result<WorkerReply> ProgramRuntime::exec(const ExecInput& input, Deadline deadline) const {
  const oci::Process process = FLUYT_TRY_CONTEXT(
      oci::parse_process(FLUYT_TRY(read_memfd(input.process, oci::kMaxSpecBytes))), "process");
  FLUYT_TRY(check_terminal(process, input));
  FLUYT_TRY(adopt_orphans());
  CallFiles files = FLUYT_TRY(files_of(input.container.id));
  std::optional<ConsoleSocket> console;
  if (input.terminal) {
    console = FLUYT_TRY(ConsoleSocket::create(call_folder(state_dir_, input.container.id),
                                              cat("console.", getpid())));
    files.console_socket = console->path();
  }
  ProgramCall call;
  call.words = exec_command(program_, files, input.container.id, kInputPath);
  call.in = input.in;
  call.out = input.out;
  call.err = input.err;
  call.input = input.process;
  call.log = files.log;
  FLUYT_TRY(call_program(call, deadline));
  StartedExec started{.process = FLUYT_TRY(adopted_process(files.pid)), .console = {}};
  if (console) started.console = FLUYT_TRY(console->take());
  return reply_of(std::move(started));
}

// The processes first, and not by the program: what it cannot do any more is done all the same.
Result<std::string> ProgramRuntime::remove(const ContainerInfo& container,
                                           Deadline deadline) const {
  const auto cgroup = cgroup_of(container);
  const bool has_cgroup = cgroup != runtime::CgroupRecord{};
  if (has_cgroup) FLUYT_TRY(runtime::cgroup::kill_all(cgroup, deadline));
  const auto deleted = delete_with_program(program_, container.id, Deadline::after_ms(kUndoMs));
  if (has_cgroup) FLUYT_TRY(runtime::cgroup::end(cgroup, deadline));
  return deleted.ok() ? std::string() : deleted.error().message();
}

Result<> ProgramRuntime::undo(const std::string& id, const std::string& announced,
                              const std::vector<runtime::CgroupRecord>& others,
                              Deadline deadline) const {
  FLUYT_TRY(end_announced(id, announced, others, deadline));
  auto deleted = delete_with_program(program_, id, deadline);
  forget_files(state_dir_, id);
  return deleted;
}

}  // namespace

std::unique_ptr<ContainerRuntime> make_program_runtime(std::string state_dir,
                                                       RuntimeProgram program) {
  return std::make_unique<ProgramRuntime>(std::move(state_dir), std::move(program));
}

}  // namespace fluyt::monitor
