#include "guest/sandbox/sandbox.h"

#include <fcntl.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include <array>
#include <thread>

#include "guest/fs/devices.h"
#include "guest/fs/hostfs.h"
#include "guest/fs/memfs.h"
#include "guest/loader/loader.h"
#include "guest/platform/host/broker.h"
#include "guest/platform/host/confine.h"
#include "guest/platform/host/io.h"
#include "guest/platform/host/poller.h"
#include "guest/platform/notify/notify.h"
#include "guest/proc/procfs.h"
#include "guest/sys/table.h"
#include "guest/task/task.h"
#include "sys/file.h"

namespace fluyt::guest {
namespace {

Result<> checked(Errno error, const char* what) {
  if (error.ok()) return {};
  return Error::from_errno(error.value(), what);
}

constexpr std::array kForwarded = {SIGINT,  SIGTERM, SIGQUIT,  SIGHUP, SIGTSTP,
                                   SIGUSR1, SIGUSR2, SIGWINCH, SIGCONT};

/// /dev: what every program expects, and the starter's terminal when there is one.
Errno fill_dev(Tree& tree, const WalkFrom& from, const FilePtr& terminal) {
  struct Device {
    const char* path;
    uint32_t major, minor;
  };
  constexpr Device kDevices[] = {{"/dev/null", 1, 3},   {"/dev/zero", 1, 5},    {"/dev/full", 1, 7},
                                 {"/dev/random", 1, 8}, {"/dev/urandom", 1, 9}, {"/dev/tty", 5, 0},
                                 {"/dev/console", 5, 1}};
  for (const Device& device : kDevices) {
    GUEST_TRY(
        tree.make(from, device.path, S_IFCHR | 0666, make_device(device.major, device.minor)));
    if (device.major == 5 && terminal) {
      const DentryPtr made = GUEST_TRY(tree.find(from, device.path, LastLink::kFollow));
      made->inode->attachment = terminal;
    }
  }
  constexpr const char* kLinks[][2] = {{"/dev/fd", "/proc/self/fd"},
                                       {"/dev/stdin", "/proc/self/fd/0"},
                                       {"/dev/stdout", "/proc/self/fd/1"},
                                       {"/dev/stderr", "/proc/self/fd/2"}};
  for (const auto& link : kLinks) GUEST_TRY(tree.symlink(from, link[0], link[1]));
  GUEST_TRY(tree.make(from, "/dev/shm", S_IFDIR | 01777, 0));
  GUEST_TRY(tree.make(from, "/dev/pts", S_IFDIR | 0755, 0));
  return kOk;
}

/// Mounts a file system where the root has a directory for it.
Errno mount_over(Tree& tree, const WalkFrom& from, const char* path, InodePtr root,
                 const char* type) {
  const ErrnoOr<DentryPtr> at = tree.find(from, path, LastLink::kFollow);
  if (!at.ok()) return at.error().value() == ENOENT ? kOk : at.error();
  return tree.mount(at.value(), std::move(root), type);
}

Errno start_first(Kernel& kernel, const SandboxRequest& request, std::array<FilePtr, 3> streams,
                  ProcessPtr* out) {
  ProcessPtr process;
  TaskPtr task;
  {
    std::lock_guard lock(kernel.lock);
    const int32_t id = GUEST_TRY(kernel.new_id());
    process = std::make_shared<Process>(kernel, id);
    task = std::make_shared<Task>(kernel, process, id);
  }
  process->group = process->session = process->pid;
  process->started_ns = host::clock_ns(7);
  process->limits[3].soft = uint64_t{8} << 20;  // RLIMIT_STACK
  process->limits[4].soft = 0;                  // RLIMIT_CORE
  process->limits[7] = {1024, 524288};          // RLIMIT_NOFILE
  task->files = std::make_shared<FdTable>();
  for (FilePtr& stream : streams) GUEST_TRY(task->files->add(std::move(stream), false));
  task->fs = std::make_shared<FsContext>();
  task->fs->root = kernel.tree->root();
  task->fs->cwd = kernel.tree->root();
  const WalkFrom from = task->walk_from();
  task->fs->cwd = GUEST_TRY(kernel.tree->find(from, request.working_directory, LastLink::kFollow));
  if (!task->fs->cwd->inode->is_dir()) return Errno(ENOTDIR);

  const std::string& path = request.arguments[0];
  FilePtr file = GUEST_TRY(open_executable(*kernel.tree, task->walk_from(), path));
  Caller caller{task->sleeper, task->credentials, nullptr, nullptr};
  Loaded loaded = GUEST_TRY(
      load_program({kernel.platform, *kernel.tree, caller, task->walk_from(), path, std::move(file),
                    request.arguments, request.environment, task->credentials, false}));
  task->mm = std::move(loaded.mm);
  task->context = GUEST_TRY(task->mm->space().create_context(loaded.image));
  task->name = path.substr(path.rfind('/') + 1).substr(0, 15);
  process->executable_path = loaded.executable->path();
  process->arguments = request.arguments;
  process->has_executed = true;
  {
    std::lock_guard lock(kernel.lock);
    kernel.enter(task);
    std::lock_guard guard(kernel.terminal->mutex);
    kernel.terminal->session = kernel.terminal->foreground = process->pid;
  }
  *out = process;
  return kernel.start(std::move(task));
}

/// What the sandbox's starter is sent goes to the terminal's foreground group, or to the first
/// process when there is no terminal.
void forward_signals(Kernel& kernel, const ProcessPtr& first, bool terminal) {
  sigset_t wanted;
  sigemptyset(&wanted);
  for (int signal : kForwarded) sigaddset(&wanted, signal);
  for (;;) {
    int signal = 0;
    if (sigwait(&wanted, &signal) != 0) continue;
    std::lock_guard lock(kernel.lock);
    int32_t foreground = 0;
    {
      std::lock_guard guard(kernel.terminal->mutex);
      foreground = kernel.terminal->foreground;
    }
    const SignalInfo info = make_signal(signal, 0x80 /* SI_KERNEL */);
    if (!terminal || foreground == 0 || !kernel.send_to_group(foreground, info))
      kernel.send(*first, info);
  }
}

}  // namespace

Result<int> run_sandbox(const SandboxRequest& request) {
  if (request.arguments.empty())
    return Error(Code::kInvalidArgument, "no program: expected its path and arguments");
  if (std::string missing = notify_platform_missing(); !missing.empty())
    return Error(Code::kUnimplemented, std::move(missing));

  // Each guest thread takes a descriptor, each guest process three.
  rlimit files{};
  if (getrlimit(RLIMIT_NOFILE, &files) == 0) {
    files.rlim_cur = files.rlim_max;
    setrlimit(RLIMIT_NOFILE, &files);
  }
  sigset_t forwarded;
  sigemptyset(&forwarded);
  for (int signal : kForwarded) sigaddset(&forwarded, signal);
  pthread_sigmask(SIG_BLOCK, &forwarded, nullptr);
  signal(SIGPIPE, SIG_IGN);

  sys::Fd log;
  if (!request.log.empty())
    log = FLUYT_TRY(sys::open(request.log, O_WRONLY | O_CREAT | O_APPEND, 0644));
  HostFacts facts{host::host_text("/proc/cpuinfo")};
  auto broker = FLUYT_TRY_CONTEXT(host::Broker::start(request.root), "broker for " + request.root);
  const uint32_t uid = geteuid();
  const uint32_t gid = getegid();
  FLUYT_TRY(host::drop_privileges());
  const std::unique_ptr<Platform> platform = FLUYT_TRY(create_notify_platform());

  auto host_fs = std::make_shared<HostFs>(
      std::move(broker), request.read_only ? HostFs::Access::kReadOnly : HostFs::Access::kReadWrite,
      uid == 0 ? HostFs::Ids::kAsTheyAre : HostFs::Ids::kOursAreRoot, uid, gid);
  ErrnoOr<InodePtr> root = host_fs->root();
  if (!root.ok()) return Error::from_errno(root.error().value(), "stat of the root");
  auto tree = std::make_shared<Tree>(std::move(root).value(), "host");
  // Neither is ever destroyed: tasks of a sandbox that has ended may still be leaving.
  auto* kernel = new Kernel(*platform, tree, dispatch);
  kernel->names.host = request.host_name;
  kernel->max_tasks = request.max_tasks;
  auto poller = std::make_shared<host::Poller>();

  const bool terminal = host::is_terminal(sys::FdRef(0));
  std::array<FilePtr, 3> streams;
  for (int i = 0; i < 3; ++i) {
    const bool is_terminal = host::is_terminal(sys::FdRef(i));
    auto made =
        make_host_stream(sys::Fd(dup(i)), O_RDWR, poller, is_terminal ? kernel->terminal : nullptr);
    if (!made.ok())
      return Error::from_errno(made.error().value(), "standard stream " + std::to_string(i));
    streams[static_cast<size_t>(i)] = std::move(made).value();
  }
  kernel->log = std::move(log);
  if (request.strace) kernel->strace = sys::Fd(dup(2));

  FLUYT_TRY(host::confine_sentry());

  const WalkFrom from{tree->root(), tree->root(), {}};
  FLUYT_TRY(
      checked(mount_over(*tree, from, "/proc", make_procfs(*kernel, std::move(facts)), "proc"),
              "mount of /proc"));
  if (tree->find(from, "/dev", LastLink::kFollow).ok()) {
    FLUYT_TRY(checked(mount_over(*tree, from, "/dev", make_memfs(0755), "tmpfs"), "mount of /dev"));
    FLUYT_TRY(checked(fill_dev(*tree, from, terminal ? streams[0] : nullptr), "/dev"));
  }
  FLUYT_TRY(checked(mount_over(*tree, from, "/tmp", make_memfs(01777), "tmpfs"), "mount of /tmp"));

  ProcessPtr first;
  if (const Errno started = start_first(*kernel, request, std::move(streams), &first);
      !started.ok())
    return Error::from_errno(started.value(), "start " + request.arguments[0]);
  std::thread([kernel, first, terminal] { forward_signals(*kernel, first, terminal); }).detach();
  const int status = kernel->wait_for(first);
  return status;
}

}  // namespace fluyt::guest
