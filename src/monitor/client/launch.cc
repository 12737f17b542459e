#include "monitor/client/launch.h"

#include <fcntl.h>
#include <linux/mount.h>
#include <poll.h>
#include <sched.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <csignal>
#include <cstddef>
#include <string>
#include <vector>

#include "base/strings.h"
#include "monitor/protocol/planned.h"
#include "monitor/protocol/state_folder.h"
#include "runtime/cgroup/cgroup.h"
#include "sys/clone.h"
#include "sys/file.h"
#include "sys/process.h"

namespace fluyt::monitor {

namespace {

// The numbers at which the monitor finds what it is given.
constexpr int kPodInitNumber = 3;
constexpr int kReadyNumber = 4;

// Shared between the caller and two children that borrow its memory (CLONE_VM | CLONE_VFORK): they
// allocate nothing and touch nothing else.
struct Launch {
  char* const* argv;
  char* const* envp;
  int program;
  std::array<int, 5> given;  // what becomes 0 to 4
  const runtime::cgroup::Ways& ways;
  char* stack_top;      // of the second child
  pid_t pid = -1;       // the monitor's
  bool born_in = true;  // its v2 cgroup; else it has to be moved there
  int error = 0;
};

// One that is moved waits for an RCU grace period (cgroup::Ways), so it enters by itself.
bool enter_cgroup(const Launch& launch) {
  for (const sys::Fd& tasks : launch.ways.tasks) {
    if (write(tasks.raw(), "0", 1) != 1) return false;
  }
  return true;
}

void exec_monitor(void* argument) {
  auto& launch = *static_cast<Launch*>(argument);
  auto die = [&] {
    launch.error = errno;
    _exit(127);
  };
  if (!enter_cgroup(launch)) die();
  setsid();
  for (int number = 1; number < NSIG; ++number) signal(number, SIG_DFL);
  // First out of the way of 0 to 4, then into place.
  for (int& fd : launch.given) {
    fd = fcntl(fd, F_DUPFD_CLOEXEC, 10);
    if (fd < 0) die();
  }
  const int program = fcntl(launch.program, F_DUPFD_CLOEXEC, 10);
  if (program < 0) die();
  for (size_t number = 0; number < launch.given.size(); ++number) {
    if (dup2(launch.given[number], static_cast<int>(number)) < 0) die();
  }
  if (syscall(SYS_close_range, launch.given.size(), ~0U, CLOSE_RANGE_CLOEXEC) != 0) die();
  if (chdir("/") != 0) die();
  sigset_t none;
  sigemptyset(&none);
  sigprocmask(SIG_SETMASK, &none, nullptr);
  syscall(SYS_execveat, program, "", launch.argv, launch.envp, AT_EMPTY_PATH);
  die();
}

int exec_monitor_of_clone(void* argument) {
  exec_monitor(argument);
  return 127;
}

// Ends at once, so that the monitor is reparented to init.
int fork_monitor(void* argument) {
  auto& launch = *static_cast<Launch*>(argument);
  long pid = sys::live_in_our_memory_plainly(exec_monitor, &launch, launch.ways.unified);
  if (pid == -ENOSYS) {
    launch.born_in = false;
    pid = clone(exec_monitor_of_clone, launch.stack_top, CLONE_VM | CLONE_VFORK | SIGCHLD, &launch);
    if (pid < 0) pid = -errno;
  }
  if (pid < 0) {
    launch.error = static_cast<int>(-pid);
  } else {
    launch.pid = static_cast<pid_t>(pid);
  }
  _exit(0);
}

Result<pid_t> double_fork(Launch& launch) {
  constexpr size_t kStackBytes = 64UL << 10U;
  std::vector<char> stacks(2 * kStackBytes);
  // Stacks grow down and are 16-byte aligned.
  auto top = [&](size_t end) {
    return reinterpret_cast<char*>(reinterpret_cast<uintptr_t>(stacks.data() + end) &
                                   ~uintptr_t{15});
  };
  launch.stack_top = top(2 * kStackBytes);
  // No handler of ours may run on borrowed memory.
  sigset_t all;
  sigset_t before;
  sigfillset(&all);
  pthread_sigmask(SIG_SETMASK, &all, &before);
  // No exit signal: nobody's SIGCHLD handler hears of the middle process.
  const int middle = clone(fork_monitor, top(kStackBytes), CLONE_VM | CLONE_VFORK, &launch);
  const int clone_errno = errno;
  if (middle > 0) {
    while (waitpid(middle, nullptr, static_cast<int>(__WCLONE)) < 0 && errno == EINTR) {
    }
  }
  pthread_sigmask(SIG_SETMASK, &before, nullptr);
  if (middle < 0) return Error::from_errno(clone_errno, "clone()");
  if (launch.error != 0) return Error::from_errno(launch.error, "start of the monitor");
  return launch.pid;
}

// One line: "ready", or why it could not start.
Result<std::string> read_ready(sys::FdRef pipe, Deadline deadline) {
  std::string text;
  std::array<char, 1024> buffer;
  while (text.size() < 64 * 1024) {
    pollfd entry{.fd = pipe.raw(), .events = POLLIN, .revents = 0};
    const int ready = poll(&entry, 1, deadline.poll_timeout_ms());
    if (ready < 0 && errno == EINTR) continue;
    if (ready < 0) return Error::from_errno(errno, "poll(ready pipe)");
    if (ready == 0) return Error(Code::kDeadlineExceeded, "the monitor is not ready in time");
    const size_t got = FLUYT_TRY(sys::read_some(pipe, buffer));
    if (got == 0) break;
    text.append(buffer.data(), got);
    if (text.ends_with('\n')) break;
  }
  return std::string(trim(text));
}

Result<> start_in(const LaunchOptions& options, const runtime::cgroup::Own& own, sys::FdRef monitor,
                  sys::FdRef pod_init, Deadline deadline) {
  const sys::Fd null = FLUYT_TRY(sys::open("/dev/null", O_RDWR));
  const sys::Fd log = FLUYT_TRY(sys::open(cat(options.state_dir, "/", kLogFile),
                                          O_WRONLY | O_CREAT | O_APPEND | O_NOFOLLOW, 0600));
  sys::Pipe ready = FLUYT_TRY(sys::make_pipe());

  std::vector<std::string> args = {"fluyt-monitor", options.sandbox_id, options.state_dir,
                                   options.cgroup};
  std::vector<char*> argv;
  for (std::string& arg : args) argv.push_back(arg.data());
  argv.push_back(nullptr);
  std::array<char*, 1> envp = {nullptr};
  static_assert(kPodInitNumber == 3 && kReadyNumber == 4);
  Launch launch{.argv = argv.data(),
                .envp = envp.data(),
                .program = monitor.raw(),
                .given = {null.raw(), null.raw(), log.raw(), pod_init.raw(), ready.write.raw()},
                .ways = own.ways,
                .stack_top = nullptr};
  const pid_t pid = FLUYT_TRY(double_fork(launch));
  auto process = sys::Process::open(pid);
  ready.write.reset();
  if (!launch.born_in && own.ways.unified.valid())
    FLUYT_TRY(runtime::cgroup::join({.unified = own.record.unified, .legacy = {}}, pid));
  auto said = read_ready(ready.read, deadline);
  if (said.ok() && *said == "ready") return {};
  if (process.ok())
    process->kill(SIGKILL).ignore("it did not become ready; there is nobody to tell");
  if (!said.ok()) return std::move(said).error();
  return Error(Code::kInternal,
               cat("monitor: ", said->empty() ? "ended before it was ready" : *said));
}

}  // namespace

Result<sys::Fd> mount_program(const std::string& path) {
  sys::Fd tree(static_cast<int>(
      syscall(SYS_open_tree, AT_FDCWD, path.c_str(), OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC)));
  if (!tree.valid())
    return Error::from_errno(errno, cat("open_tree(", quote(path, 1024), ", OPEN_TREE_CLONE)"));
  mount_attr attributes{};
  attributes.attr_set = MOUNT_ATTR_RDONLY | MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV;
  if (syscall(SYS_mount_setattr, tree.raw(), "", AT_EMPTY_PATH, &attributes, sizeof attributes) !=
      0) {
    return Error::from_errno(errno, cat("mount_setattr(", quote(path, 1024), ", read-only)"));
  }
  return tree;
}

Result<> start_monitor(const LaunchOptions& options, sys::FdRef monitor, sys::FdRef pod_init,
                       Deadline deadline) {
  const runtime::cgroup::Own own = FLUYT_TRY_CONTEXT(
      runtime::cgroup::make_own(options.cgroup, options.sandbox_id,
                                record_planned(cat(options.state_dir, "/", kMonitorFile))),
      cat("cgroup ", quote(options.cgroup)));
  auto started = start_in(options, own, monitor, pod_init, deadline);
  if (!started.ok()) own.remove();
  return started;
}

}  // namespace fluyt::monitor
