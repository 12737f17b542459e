#include "guest/sandbox/sandbox.h"

#include <fcntl.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include <array>
#include <atomic>
#include <thread>

#include "base/strings.h"
#include "guest/fs/devices.h"
#include "guest/fs/hostfs.h"
#include "guest/fs/memfs.h"
#include "guest/platform/host/broker.h"
#include "guest/platform/host/confine.h"
#include "guest/platform/host/io.h"
#include "guest/platform/host/poller.h"
#include "guest/platform/notify/notify.h"
#include "guest/proc/procfs.h"
#include "guest/sandbox/control.h"
#include "guest/sandbox/program.h"
#include "guest/sys/table.h"
#include "guest/task/task.h"
#include "sys/file.h"

namespace fluyt::guest {
namespace {

/// /dev: what every program expects, and the starter's terminal when there is one.
Errno fill_dev(Tree& tree, const WalkFrom& from, const std::string& dev, const FilePtr& terminal) {
  struct Device {
    const char* path;
    uint32_t major, minor;
  };
  constexpr Device kDevices[] = {{"/null", 1, 3},   {"/zero", 1, 5},    {"/full", 1, 7},
                                 {"/random", 1, 8}, {"/urandom", 1, 9}, {"/tty", 5, 0},
                                 {"/console", 5, 1}};
  for (const Device& device : kDevices) {
    GUEST_TRY(tree.make(from, dev + device.path, S_IFCHR | 0666,
                        make_device(device.major, device.minor)));
    if (device.major == 5 && terminal) {
      const DentryPtr made = GUEST_TRY(tree.find(from, dev + device.path, LastLink::kFollow));
      made->inode->attachment = terminal;
    }
  }
  constexpr const char* kLinks[][2] = {{"/fd", "/proc/self/fd"},
                                       {"/stdin", "/proc/self/fd/0"},
                                       {"/stdout", "/proc/self/fd/1"},
                                       {"/stderr", "/proc/self/fd/2"}};
  for (const auto& link : kLinks) GUEST_TRY(tree.symlink(from, dev + link[0], link[1]));
  return kOk;
}

/// Mounts what the request names, in its order.
Errno mount_all(Kernel& kernel, const std::vector<SandboxMount>& mounts, const HostFacts& facts,
                const FilePtr& terminal, std::string* where) {
  Tree& tree = *kernel.tree;
  const WalkFrom from{tree.root(), tree.root(), {}};
  // What another mount is about to hide is looked up before any is made.
  std::vector<DentryPtr> hidden(mounts.size());
  for (size_t i = 0; i < mounts.size(); ++i) {
    *where = mounts[i].path;
    if (mounts[i].kind == SandboxMount::Kind::kHost)
      hidden[i] = GUEST_TRY(tree.find(from, mounts[i].path, LastLink::kFollow));
  }
  const InodePtr stand_in = make_memfs(0755);
  for (size_t i = 0; i < mounts.size(); ++i) {
    const SandboxMount& mount = mounts[i];
    *where = mount.path;
    if (mount.kind == SandboxMount::Kind::kHost && !hidden[i]->inode->is_dir()) {
      const Errno made = tree.make(from, mount.path, S_IFREG | 0644, 0);
      if (!made.ok() && made.value() != EEXIST) return made;
    }
    const DentryPtr at = GUEST_TRY(tree.mount_point(from, mount.path, stand_in));
    switch (mount.kind) {
      case SandboxMount::Kind::kProc:
        GUEST_TRY(tree.mount(at, make_procfs(kernel, facts), "proc"));
        break;
      case SandboxMount::Kind::kSysfs:
        GUEST_TRY(tree.mount(at, make_memfs(0555), "sysfs"));
        break;
      case SandboxMount::Kind::kDev:
        GUEST_TRY(tree.mount(at, make_memfs(mount.mode), "tmpfs"));
        GUEST_TRY(fill_dev(tree, from, mount.path, terminal));
        break;
      case SandboxMount::Kind::kDevPts:
        GUEST_TRY(tree.mount(at, make_memfs(0755), "devpts"));
        break;
      case SandboxMount::Kind::kTmpfs:
        GUEST_TRY(tree.mount(at, make_memfs(mount.mode), "tmpfs"));
        break;
      case SandboxMount::Kind::kHost:
        GUEST_TRY(tree.mount(at, hidden[i]->inode, "host"));
        break;
    }
  }
  return kOk;
}

constexpr std::array kForwarded = {SIGINT,  SIGTERM, SIGQUIT,  SIGHUP, SIGTSTP,
                                   SIGUSR1, SIGUSR2, SIGWINCH, SIGCONT};

/// Those that a container passes on: all but what our own faults raise, and the two that the C
/// library keeps for itself.
sigset_t all_forwarded() {
  sigset_t set;
  sigfillset(&set);
  for (int own : {SIGKILL, SIGSTOP, SIGCHLD, SIGSEGV, SIGBUS, SIGILL, SIGFPE, SIGTRAP, SIGSYS,
                  SIGABRT, SIGPIPE})
    sigdelset(&set, own);
  return set;
}

sigset_t some_forwarded() {
  sigset_t set;
  sigemptyset(&set);
  for (int signal : kForwarded) sigaddset(&set, signal);
  return set;
}

/// What the sandbox's starter is sent goes to the terminal's foreground group, or to the first
/// process when there is no terminal.
[[noreturn]] void forward_signals(Kernel& kernel, const ProcessPtr& first, bool terminal) {
  const sigset_t wanted = some_forwarded();
  for (;;) {
    int signal = 0;
    if (sigwait(&wanted, &signal) != 0) continue;
    std::lock_guard lock(kernel.lock);
    int32_t foreground = 0;
    {
      std::lock_guard guard(kernel.terminal->mutex);
      foreground = kernel.terminal->foreground;
    }
    const SignalInfo info = make_signal(signal, SI_KERNEL);
    if (!terminal || foreground == 0 || !kernel.send_to_group(foreground, info))
      kernel.send(*first, info);
  }
}

/// A container's: its first process is an init like any other. Before the program runs, what asks
/// for an end gets it.
[[noreturn]] void forward_to_init(Kernel& kernel, const ProcessPtr& first, bool terminal,
                                  const std::atomic<bool>& started) {
  const sigset_t wanted = all_forwarded();
  for (;;) {
    siginfo_t info{};
    const int signal = sigwaitinfo(&wanted, &info);
    if (signal <= 0) continue;
    if (!started.load()) {
      for (int end : {SIGHUP, SIGINT, SIGQUIT, SIGTERM, SIGUSR1, SIGUSR2})
        if (signal == end) _exit(128 + signal);
    }
    deliver(kernel, first, terminal ? kernel.terminal : nullptr, signal, info.si_code == SI_KERNEL);
  }
}

/// A kernel whose files are there and whose first program is loaded, in a confined process.
struct Sandbox {
  Kernel* kernel = nullptr;
  Prepared first;
  std::shared_ptr<host::Poller> poller;
  bool terminal = false;
};

enum class Scene : uint8_t {
  kHosts,      // the caller's own tree and processes
  kContainer,  // a mount namespace made for the sandbox
};

Result<Sandbox> set_up(const SandboxRequest& request, Scene scene) {
  if (std::string missing = notify_platform_missing(); !missing.empty())
    return Error(Code::kUnimplemented, std::move(missing));

  // Each guest thread takes a descriptor, each guest process three.
  rlimit files{};
  if (getrlimit(RLIMIT_NOFILE, &files) == 0) {
    files.rlim_cur = files.rlim_max;
    setrlimit(RLIMIT_NOFILE, &files);
  }
  const sigset_t forwarded = scene == Scene::kContainer ? all_forwarded() : some_forwarded();
  pthread_sigmask(SIG_BLOCK, &forwarded, nullptr);
  signal(SIGPIPE, SIG_IGN);

  sys::Fd log;
  if (!request.log.empty())
    log = FLUYT_TRY(sys::open(request.log, O_WRONLY | O_CREAT | O_APPEND, 0644));
  sys::Fd procfs = FLUYT_TRY(host::open_procfs());
  const HostFacts facts{host::host_text(procfs, "cpuinfo")};
  auto broker =
      FLUYT_TRY_CONTEXT(host::Broker::start(request.root, procfs), "broker for " + request.root);
  procfs.reset();
  const uint32_t uid = geteuid();
  const uint32_t gid = getegid();
  if (scene == Scene::kContainer) FLUYT_TRY(host::leave_tree());
  FLUYT_TRY(host::drop_privileges());
  std::unique_ptr<Platform> platform = FLUYT_TRY(create_notify_platform());

  auto host_fs = std::make_shared<HostFs>(
      std::move(broker), request.read_only ? HostFs::Access::kReadOnly : HostFs::Access::kReadWrite,
      uid == 0 ? HostFs::Ids::kAsTheyAre : HostFs::Ids::kOursAreRoot, uid, gid);
  ErrnoOr<InodePtr> root = host_fs->root();
  if (!root.ok()) return Error::from_errno(root.error().value(), "stat of the root");
  auto tree = std::make_shared<Tree>(std::move(root).value(), "host");
  Sandbox out;
  // None of it is ever destroyed: tasks of a sandbox that has ended may still be leaving.
  out.kernel = new Kernel(*platform.release(), tree, dispatch);
  Kernel& kernel = *out.kernel;
  kernel.names.host = request.host_name;
  kernel.names.domain = request.domain_name;
  kernel.max_tasks = request.max_tasks;
  out.poller = std::make_shared<host::Poller>();

  std::array<FilePtr, 3> streams;
  FilePtr console;
  for (int i = 0; i < 3; ++i) {
    const bool is_terminal = host::is_terminal(sys::FdRef(i));
    auto made = make_host_stream(sys::Fd(dup(i)), O_RDWR, out.poller,
                                 is_terminal ? kernel.terminal : nullptr);
    if (!made.ok())
      return Error::from_errno(made.error().value(), "standard stream " + std::to_string(i));
    streams[static_cast<size_t>(i)] = std::move(made).value();
    if (is_terminal && !console) console = streams[static_cast<size_t>(i)];
  }
  out.terminal = console != nullptr;
  kernel.log = std::move(log);
  if (request.strace) kernel.strace = sys::Fd(dup(2));

  FLUYT_TRY(host::confine_sentry());

  std::string where;
  if (const Errno mounted = mount_all(kernel, request.mounts, facts, console, &where);
      !mounted.ok())
    return Error::from_errno(mounted.value(), "mount at " + where);
  out.first = FLUYT_TRY(prepare_program(kernel, request.program, std::move(streams),
                                        out.terminal ? kernel.terminal : nullptr));
  return out;
}

}  // namespace

Result<int> run_sandbox(const SandboxRequest& request) {
  const Sandbox sandbox = FLUYT_TRY(set_up(request, Scene::kHosts));
  Kernel* kernel = sandbox.kernel;
  const ProcessPtr first = sandbox.first.process;
  if (const Errno started = kernel->start(sandbox.first.task); !started.ok())
    return Error::from_errno(started.value(), "start " + request.program.arguments[0]);
  const bool terminal = sandbox.terminal;
  std::thread([kernel, first, terminal] { forward_signals(*kernel, first, terminal); }).detach();
  return kernel->wait_for(first);
}

Result<int> run_container(ContainerRequest request) {
  auto made = set_up(request.sandbox, Scene::kContainer);
  if (!made.ok()) {
    const auto code = static_cast<char>(made.error().code());
    sys::write_all(request.ready, cat(std::string_view(&code, 1), made.error().message()))
        .ignore("whoever made us is gone");
    return std::move(made).error();
  }
  Sandbox sandbox = std::move(*made);
  Kernel* kernel = sandbox.kernel;
  const ProcessPtr first = sandbox.first.process;
  // Outlives everybody who looks at it.
  auto* started = new std::atomic<bool>(false);
  const bool terminal = sandbox.terminal;
  std::thread([kernel, first, terminal, started] {
    forward_to_init(*kernel, first, terminal, *started);
  }).detach();
  if (request.control.valid()) {
    const Errno served = serve_control(*kernel, std::move(request.control), sandbox.poller);
    if (!served.ok()) return Error::from_errno(served.value(), "the control socket's thread");
  }
  if (request.gate.valid()) {
    request.ready.reset();
    char byte = 0;
    auto got = sys::read_some(request.gate, {&byte, 1});
    if (!got.ok() || *got == 0) return Error(Code::kAborted, "nobody is left to start it");
    request.gate.reset();
  }
  started->store(true);
  if (const Errno start = kernel->start(std::move(sandbox.first.task)); !start.ok()) {
    Error error = Error::from_errno(start.value(), "start of the program");
    sys::write_all(request.report, error.message()).ignore("whoever started us is gone");
    return error;
  }
  request.report.reset();
  request.ready.reset();
  return kernel->wait_for(first);
}

}  // namespace fluyt::guest
