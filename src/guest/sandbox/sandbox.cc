#include "guest/sandbox/sandbox.h"

#include <fcntl.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <thread>

#include "base/escapes.h"
#include "base/strings.h"
#include "guest/fs/devices.h"
#include "guest/fs/hostfs.h"
#include "guest/fs/memfs.h"
#include "guest/fs/tty.h"
#include "guest/platform/host/broker.h"
#include "guest/platform/host/confine.h"
#include "guest/platform/host/io.h"
#include "guest/platform/host/poller.h"
#include "guest/platform/notify/notify.h"
#include "guest/proc/procfs.h"
#include "guest/proc/sysfs.h"
#include "guest/sandbox/control.h"
#include "guest/sandbox/mounter.h"
#include "guest/sandbox/network.h"
#include "guest/sandbox/pod.h"
#include "guest/sandbox/program.h"
#include "guest/sandbox/streams.h"
#include "guest/sys/table.h"
#include "guest/task/task.h"
#include "sys/file.h"
#include "sys/mount.h"

namespace fluyt::guest {
namespace {

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
[[noreturn]] void forward_to_init(Kernel& kernel, const Outside& first,
                                  const std::atomic<bool>& started) {
  const sigset_t wanted = all_forwarded();
  for (;;) {
    siginfo_t info{};
    const int signal = sigwaitinfo(&wanted, &info);
    if (signal <= 0) continue;
    if (!started.load()) {
      for (int end : {SIGHUP, SIGINT, SIGQUIT, SIGTERM, SIGUSR1, SIGUSR2})
        if (signal == end && info.si_code != SI_KERNEL) _exit(128 + signal);
    }
    deliver(kernel, first, signal, info.si_code == SI_KERNEL);
  }
}

/// A kernel whose files are there and whose first program is loaded, in a confined process.
struct Sandbox {
  Kernel* kernel = nullptr;
  Pod* pod = nullptr;
  Prepared first;
  std::shared_ptr<Pts> terminals;
  std::shared_ptr<Terminal> terminal;  // of the first program
  std::shared_ptr<TtyBridge> bridge;
};

std::map<std::string, std::string> read_huge_pages() {
  std::map<std::string, std::string> out;
  const sys::Fd sysfs = host::find_host_mount({"/sys", "sysfs", sys::kSysfsMagic, {}});
  if (!sysfs.valid()) return out;
  for (const std::string& name : huge_page_settings()) {
    std::string text = host::host_text(sysfs, cat(kHugePagesFolder, "/", name));
    if (!text.empty()) out.emplace(name, std::move(text));
  }
  return out;
}

std::map<std::string, std::string> read_settings(host::Broker& broker,
                                                 const std::vector<std::string>& paths) {
  std::map<std::string, std::string> out;
  for (size_t i = 0; i < paths.size(); ++i) {
    const ErrnoOr<sys::Fd> file = broker.open_setting(i);
    if (!file.ok()) continue;  // this kernel, or this network, has none
    std::string text = host::text_of(file.value());
    if (!text.empty()) out.emplace(paths[i], std::move(text));
  }
  return out;
}

constexpr int kMaxScore = 1000;  // proc_pid_oom_score_adj(5)

void set_score(sys::FdRef file, int score) {
  if (!file.valid()) return;
  sys::write_all(file, std::to_string(score)).ignore("it is a preference");
}

/// The score before.
int raise_score(sys::FdRef file) {
  constexpr int kAbove = 100;
  char text[16] = {};
  if (!file.valid() || pread(file.raw(), text, sizeof text - 1, 0) <= 0) return 0;
  const int own = std::atoi(text);
  set_score(file, std::min(own + kAbove, kMaxScore));
  return own;
}

/// Each guest thread takes a descriptor, each guest process four. How many there are for what
/// containers have shares of: not those of the sandbox itself, and of its sockets.
uint64_t raise_descriptor_limit() {
  constexpr uint64_t kMostAside = 65536;
  rlimit files{};
  if (getrlimit(RLIMIT_NOFILE, &files) != 0) return Quota::kUnlimited;
  files.rlim_cur = files.rlim_max;
  if (setrlimit(RLIMIT_NOFILE, &files) != 0 || getrlimit(RLIMIT_NOFILE, &files) != 0)
    return Quota::kUnlimited;
  return files.rlim_cur - std::min<uint64_t>(files.rlim_cur / 4, kMostAside);
}

enum class Scene : uint8_t {
  kHosts,      // the caller's own tree and processes
  kContainer,  // a mount namespace made for the sandbox
};

Result<Sandbox> set_up(const SandboxRequest& request, Scene scene) {
  if (std::string missing = notify_platform_missing(); !missing.empty())
    return Error(Code::kUnimplemented, std::move(missing));

  const auto descriptors = std::make_shared<Quota>(raise_descriptor_limit());
  const std::shared_ptr<Quota> own_descriptors = Quota::share_of(descriptors);
  const sigset_t forwarded = scene == Scene::kContainer ? all_forwarded() : some_forwarded();
  pthread_sigmask(SIG_BLOCK, &forwarded, nullptr);
  signal(SIGPIPE, SIG_IGN);

  sys::Fd log;
  if (!request.log.empty())
    log = FLUYT_TRY(sys::open(request.log, O_WRONLY | O_CREAT | O_APPEND, 0644));
  sys::Fd procfs = FLUYT_TRY(host::open_procfs());
  HostFacts facts{.cpuinfo = host::host_text(procfs, "cpuinfo"), .settings = {}, .huge_pages = {}};
  facts.huge_pages = read_huge_pages();
  host::MemoryGauge memory = host::MemoryGauge::open(procfs, request.memory_limit_bytes);
  const std::string uid_map = host::host_text(procfs, "self/uid_map");
  const std::string gid_map = host::host_text(procfs, "self/gid_map");
  const HostClock clock = find_host_clock(host::host_text(procfs, "self/maps"));
  // In a container's own mount namespace they are what its specification asked for.
  const Surroundings around = look_around(procfs);
  std::vector<HostMount> host_mounts;
  if (scene == Scene::kContainer) host_mounts = read_host_mounts(around.mounts);
  const std::vector<std::string> settings =
      scene == Scene::kContainer ? namespaced_settings() : std::vector<std::string>();
  FLUYT_TRY(host::stay_among_children());
  auto broker = FLUYT_TRY_CONTEXT(host::Broker::start(request.root, procfs, settings),
                                  "broker for " + request.root);
  // Lives as long as the root, and that as long as the kernel.
  facts.settings = [asked = broker.get(), settings] { return read_settings(*asked, settings); };
  WayOut way_out = FLUYT_TRY(open_way_out(request.network));
  // Where memory runs out a guest program is to end, not the kernel that all of them live on: the
  // stubs are born with a higher score, and we go back to ours.
  const sys::Fd score(openat(procfs.raw(), "self/oom_score_adj", O_RDWR | O_CLOEXEC));
  procfs.reset();
  const uint32_t uid = geteuid();
  const uint32_t gid = getegid();
  if (scene == Scene::kContainer) FLUYT_TRY(host::leave_tree());
  FLUYT_TRY(host::drop_privileges());
  const int own_score = raise_score(score);
  auto created = create_notify_platform(
      clock, request.memory_limit_bytes != 0 ? Memory::kLimited : Memory::kPlenty, own_descriptors);
  set_score(score, own_score);
  std::unique_ptr<Platform> platform = FLUYT_TRY(std::move(created));

  const HostIds ids{uid == 0 ? HostFs::Ids::kAsTheyAre : HostFs::Ids::kOursAreRoot, uid, gid};
  const auto host_files = std::make_shared<HostFiles>();
  auto host_fs = std::make_shared<HostFs>(
      std::move(broker), host_files,
      request.read_only ? HostFs::Access::kReadOnly : HostFs::Access::kReadWrite,
      // The caller's own tree is everybody's; a folder that was named is ours alone.
      scene == Scene::kContainer || request.root != "/" ? HostFs::Sharing::kExclusive
                                                        : HostFs::Sharing::kShared,
      ids.ids, ids.uid, ids.gid, own_descriptors);
  ErrnoOr<InodePtr> root = host_fs->root();
  if (!root.ok()) return Error::from_errno(root.error().value(), "stat of the root");
  auto tree = std::make_shared<Tree>(std::move(root).value(), "host");
  Sandbox out;
  // None of it is ever destroyed: tasks of a sandbox that has ended may still be leaving.
  out.kernel = new Kernel(*platform.release(), tree, dispatch);
  Kernel& kernel = *out.kernel;
  kernel.names.host = request.host_name.empty() ? around.host_name : request.host_name;
  kernel.names.domain = request.domain_name.empty() ? around.domain_name : request.domain_name;
  kernel.pids->init_is_spared = request.init_is_spared;
  if (scene == Scene::kContainer && !uid_map.empty()) {
    kernel.set_id_maps(uid_map, gid_map);
  }
  if (request.holds_pod) {
    ErrnoOr<PidSpacePtr> pids = kernel.new_pids(kernel.pids);
    if (!pids.ok()) return Error::from_errno(pids.error().value(), "a PID namespace");
    kernel.container->pids = std::move(pids).value();
    kernel.container->pids->init_is_spared = request.init_is_spared;
  }
  kernel.container->max_tasks = request.max_tasks;
  kernel.descriptors = descriptors;
  kernel.container->descriptors = own_descriptors;
  kernel.container->processor_quota_us = request.processor_quota_us;
  kernel.container->processor_period_us = request.processor_period_us;
  kernel.container->memory = std::move(memory);
  kernel.limit_shared_memory();
  kernel.sysv.posix_queues->take_limits_from(
      [settings = facts.settings] { return read_queue_limits(settings()); });
  const auto poller = std::make_shared<host::Poller>();
  install(std::move(way_out), poller, *kernel.network);
  out.pod = new Pod(kernel, facts, poller, ids, host_files, around);

  kernel.container->log = std::move(log);
  if (request.strace) kernel.container->strace = sys::Fd(dup(2));

  std::array<sys::Fd, 3> standard = {sys::Fd(dup(0)), sys::Fd(dup(1)), sys::Fd(dup(2))};

  FLUYT_TRY(host::confine_sentry());

  const PidSpacePtr& shown = request.holds_pod ? kernel.container->pids : kernel.pids;
  Mounter mounter(kernel, kernel.container, kernel.tree->root(), shown, request, facts);
  if (const Errno mounted = mounter.mount_all(host_mounts); !mounted.ok())
    return Error::from_errno(mounted.value(), "mount at " + mounter.where());
  kernel.tree->lock_mounts(kernel.tree->root());
  const auto memory_system = [&kernel](uint32_t mode) {
    return [&kernel, mode](const Task& task) {
      return make_memfs(MemfsRequest{.root_mode = mode,
                                     .within = kernel.shared_memory,
                                     .descriptors = task.container->descriptors});
    };
  };
  kernel.file_systems = {
      {"proc",
       [&kernel, facts](const Task& task) {
         return make_procfs({kernel, task.process->pids, task.container}, facts);
       }},
      {"tmpfs", memory_system(01777)},
      {"ramfs", memory_system(0755)},
      {"mqueue", [](const Task& task) { return task.sysv().posix_queues->root(); }},
      {"devpts", [&kernel](const Task&) { return make_devpts({}, kernel)->root(); }},
      {"sysfs", [&kernel, facts](const Task& task) {
         return make_guest_sysfs(kernel, facts, task.container);
       }}};
  out.terminals = mounter.terminals();
  // `do` stays on its caller's terminal as it is.
  Streams streams = FLUYT_TRY(open_streams(kernel, std::move(standard), poller,
                                           scene == Scene::kContainer ? out.terminals : nullptr,
                                           request.program.credentials, kernel.terminal));
  if (const Errno set = mounter.set_console(streams.files, streams.terminal != nullptr); !set.ok())
    return Error::from_errno(set.value(), mounter.where());
  out.terminal = streams.terminal;
  out.bridge = streams.bridge;
  out.first = FLUYT_TRY(prepare_program(kernel, kernel.container, request.program,
                                        std::move(streams.files), out.terminal));
  return out;
}

}  // namespace

Result<int> run_sandbox(const SandboxRequest& request) {
  const Sandbox sandbox = FLUYT_TRY(set_up(request, Scene::kHosts));
  Kernel* kernel = sandbox.kernel;
  const ProcessPtr first = sandbox.first.process;
  if (const Errno started = kernel->start(sandbox.first.task); !started.ok())
    return Error::from_errno(started.value(), "start " + request.program.arguments[0]);
  const bool terminal = sandbox.terminal != nullptr;
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
  kernel->container->strace = std::move(request.strace);
  kernel->container->log = std::move(request.log);
  const ProcessPtr first = sandbox.first.process;
  // Outlives everybody who looks at it.
  auto* started = new std::atomic<bool>(false);
  std::thread([kernel, first, terminal = sandbox.terminal, bridge = sandbox.bridge, started] {
    forward_to_init(*kernel, {first, terminal, bridge}, *started);
  }).detach();
  if (request.control.valid()) {
    const auto served = serve_control(*sandbox.pod, kernel->container, std::move(request.control),
                                      sandbox.terminals);
    if (!served.ok())
      return Error::from_errno(served.error().value(), "the control socket's thread");
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
  const int status = kernel->wait_for(first);
  constexpr int kLastWordsMs = 1000;
  if (sandbox.bridge) sandbox.bridge->drain(kLastWordsMs);
  return status;
}

}  // namespace fluyt::guest
