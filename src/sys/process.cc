#include "sys/process.h"

#include <fcntl.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>

#include "base/strings.h"
#include "sys/file.h"

namespace fluyt::sys {

namespace {

ExitStatus status_of(const siginfo_t& info) {
  if (info.si_code == CLD_EXITED) return {.code = info.si_status, .signal = 0};
  return {.code = 0, .signal = info.si_status};
}

Result<std::optional<ExitStatus>> wait_pidfd(FdRef pidfd, int flags) {
  siginfo_t info{};
  int result = 0;
  do {
    result = waitid(P_PIDFD, static_cast<id_t>(pidfd.raw()), &info, WEXITED | flags);
  } while (result != 0 && errno == EINTR);
  if (result != 0) return Error::from_errno(errno, "waitid(P_PIDFD)");
  if (info.si_pid == 0) return std::optional<ExitStatus>();
  return std::optional(status_of(info));
}

std::vector<char*> pointers(const std::vector<std::string>& strings) {
  std::vector<char*> out;
  out.reserve(strings.size() + 1);
  for (const std::string& s : strings) out.push_back(const_cast<char*>(s.c_str()));
  out.push_back(nullptr);
  return out;
}

const std::string& program_of(const SpawnOptions& options) {
  return options.program.empty() ? options.args[0] : options.program;
}

// Runs in the child, between fork and exec: async-signal-safe calls only, no allocation.
[[noreturn]] void exec_child(const SpawnOptions& options, char* const* argv, char* const* envp,
                             std::vector<std::pair<int, int>>& moves, int report, int maker) {
  auto die = [&] {
    const int error = errno;
    (void)!::write(report, &error, sizeof error);
    _exit(127);
  };
  sigset_t none;
  sigemptyset(&none);
  for (int signal = 1; signal < NSIG; ++signal) ::signal(signal, SIG_DFL);
  sigprocmask(SIG_SETMASK, &none, nullptr);
  if (options.new_session) setsid();
  if (options.dies_with_us) {
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    // It has ended before that. Its pidfd tells, and not getppid(2): seen from a PID namespace that
    // it joined for its children, it is 0 as long as it lives too.
    pollfd ended{.fd = maker, .events = POLLIN, .revents = 0};
    if (::poll(&ended, 1, 0) > 0) _exit(127);
  }
  // Two passes, so that no target number overwrites a source that is still wanted.
  int highest = report;
  for (const auto& [from, to] : moves) highest = std::max({highest, from, to});
  for (auto& [from, to] : moves) {
    from = fcntl(from, F_DUPFD, highest + 1);
    if (from < 0) die();
  }
  const int report_high = fcntl(report, F_DUPFD_CLOEXEC, highest + 1);
  if (report_high < 0) die();
  report = report_high;
  int top = 2;
  for (const auto& [from, to] : moves) {
    // The call itself: ThreadSanitizer's dup2() and close() take this for a thread of the parent's.
    if (syscall(SYS_dup3, from, to, 0) < 0) die();
    top = std::max(top, to);
  }
  // Everything above the numbers handed over goes at exec; gaps below `top` are closed one by one.
  if (syscall(SYS_close_range, top + 1, ~0U, 4 /* CLOSE_RANGE_CLOEXEC */) != 0) die();
  for (int fd = 3; fd <= top; ++fd) {
    const bool kept =
        std::any_of(moves.begin(), moves.end(), [&](auto& m) { return m.second == fd; });
    if (!kept) (void)syscall(SYS_close, fd);
  }
  if (chdir(options.cwd.c_str()) != 0) die();
  execve(program_of(options).c_str(), argv, envp);
  die();
  _exit(127);
}

}  // namespace

Result<Process> Process::open(pid_t pid) {
  const long fd = syscall(SYS_pidfd_open, pid, 0);
  if (fd < 0) return Error::from_errno(errno, cat("pidfd_open(", pid, ")"));
  return Process(pid, Fd(static_cast<int>(fd)));
}

Result<> Process::kill(int signal) const {
  if (syscall(SYS_pidfd_send_signal, pidfd_.raw(), signal, nullptr, 0) != 0 && errno != ESRCH) {
    return Error::from_errno(errno, cat("pidfd_send_signal(pid ", pid_, ", ", signal, ")"));
  }
  return {};
}

Result<std::optional<ExitStatus>> Process::wait(Deadline deadline) const {
  while (true) {
    pollfd entry{.fd = pidfd_.raw(), .events = POLLIN, .revents = 0};
    const int ready = poll(&entry, 1, deadline.poll_timeout_ms());
    if (ready < 0 && errno == EINTR) continue;
    if (ready < 0) return Error::from_errno(errno, "poll(pidfd)");
    if (ready == 0) return std::optional<ExitStatus>();
    return wait_pidfd(pidfd_, 0);
  }
}

Result<std::optional<ExitStatus>> Process::try_wait() const { return wait_pidfd(pidfd_, WNOHANG); }

Result<ProcessStat> process_stat(pid_t pid) {
  const std::string text = FLUYT_TRY(read_file(cat("/proc/", pid, "/stat"), 8192));
  // The command name, in parentheses, may itself hold parentheses and spaces: count from the last.
  const size_t end = text.rfind(')');
  if (end != std::string::npos) {
    const auto fields = split_words(std::string_view(text).substr(end + 1));
    if (fields.size() > 19) {
      if (auto ticks = parse_number<uint64_t>(fields[19]))
        return ProcessStat{.start_time = *ticks, .ended = fields[0] == "Z" || fields[0] == "X"};
    }
  }
  return Error(Code::kInternal, cat("/proc/", pid, "/stat: ", quote(text)));
}

Result<uint64_t> start_time_of(pid_t pid) { return FLUYT_TRY(process_stat(pid)).start_time; }

Result<std::string> boot_id() {
  return std::string(trim(FLUYT_TRY(read_file("/proc/sys/kernel/random/boot_id", 128))));
}

Result<Process> spawn(const SpawnOptions& options) {
  if (options.args.empty() || !program_of(options).starts_with('/')) {
    return Error(Code::kInvalidArgument, "spawn: the program must be an absolute path");
  }
  const Fd null = FLUYT_TRY(sys::open("/dev/null", O_RDWR));
  auto or_null = [&](FdRef fd) { return fd.valid() ? fd.raw() : null.raw(); };
  std::vector<std::pair<int, int>> moves = {
      {or_null(options.in), 0}, {or_null(options.out), 1}, {or_null(options.err), 2}};
  for (const auto& [from, to] : options.pass) moves.emplace_back(from.raw(), to);
  auto argv = pointers(options.args);
  auto envp = pointers(options.env);
  Pipe report = FLUYT_TRY(make_pipe());
  Process self;
  if (options.dies_with_us) self = FLUYT_TRY(Process::open(getpid()));

  // clone3 with a pidfd, memory copied: the callers are threads of programs that may hold locks, so
  // the child touches nothing that allocates.
  struct {
    uint64_t flags, pidfd, child_tid, parent_tid, exit_signal, stack, stack_size, tls;
  } request{};
  int pidfd = -1;
  request.flags = CLONE_PIDFD;
  request.pidfd = reinterpret_cast<uint64_t>(&pidfd);
  request.exit_signal = SIGCHLD;
  // Signals stay blocked over the fork, so that no handler of ours runs in the child.
  sigset_t all;
  sigset_t before;
  sigfillset(&all);
  pthread_sigmask(SIG_SETMASK, &all, &before);
  const long pid = syscall(SYS_clone3, &request, sizeof request);
  if (pid == 0)
    exec_child(options, argv.data(), envp.data(), moves, report.write.raw(), self.pidfd().raw());
  const int clone_errno = errno;
  pthread_sigmask(SIG_SETMASK, &before, nullptr);
  if (pid < 0) return Error::from_errno(clone_errno, "clone3()");

  Process process(static_cast<pid_t>(pid), Fd(pidfd));
  report.write.reset();
  int child_errno = 0;
  const size_t got = FLUYT_TRY(
      read_some(report.read, {reinterpret_cast<char*>(&child_errno), sizeof child_errno}));
  if (got == sizeof child_errno) {
    process.wait(Deadline::never()).ignore("it has told us why it ends");
    return Error::from_errno(child_errno, cat("execve(", quote(program_of(options), 1024), ")"));
  }
  return process;
}

Result<Captured> run(SpawnOptions options, std::string_view input, size_t limit, Deadline deadline,
                     Stop stop) {
  Pipe in = FLUYT_TRY(make_pipe());
  Pipe out = FLUYT_TRY(make_pipe());
  Pipe err = FLUYT_TRY(make_pipe());
  options.in = in.read;
  options.out = out.write;
  options.err = err.write;
  options.new_session = true;  // so that the deadline can end all that it starts
  const Process process = FLUYT_TRY(spawn(options));
  in.read.reset();
  out.write.reset();
  err.write.reset();
  FLUYT_TRY(set_nonblocking(in.write, true));
  if (input.empty()) in.write.reset();

  Captured captured;
  std::array<char, 16384> buffer;
  auto drain = [&](Fd& fd, std::string& into) {
    auto got = read_some(fd, buffer);
    if (!got.ok() || *got == 0) {
      fd.reset();
      return;
    }
    into.append(buffer.data(), std::min(*got, limit - std::min(limit, into.size())));
  };
  Patience patience(deadline, stop);
  bool over = false;
  while (!over && (out.read.valid() || err.read.valid() || in.write.valid())) {
    std::array<pollfd, 3> entries{
        {{in.write.raw(), POLLOUT, 0}, {out.read.raw(), POLLIN, 0}, {err.read.raw(), POLLIN, 0}}};
    over = !FLUYT_TRY(patience.poll(entries));
    if (entries[0].revents != 0) {
      // SIGPIPE is ignored in every program of ours; a child that does not read is its own affair.
      const ssize_t put = ::write(in.write.raw(), input.data(), input.size());
      if (put > 0) input.remove_prefix(static_cast<size_t>(put));
      if ((put < 0 && errno != EAGAIN && errno != EINTR) || input.empty()) in.write.reset();
    }
    if (entries[1].revents != 0) drain(out.read, captured.out);
    if (entries[2].revents != 0) drain(err.read, captured.err);
  }
  // One that has closed its outputs and goes on is ended like any other.
  if (!over) over = !FLUYT_TRY(patience.wait_readable(process.pidfd()));
  if (over) {
    ::kill(-process.pid(), SIGKILL);
    (patience.is_stopped() ? captured.stopped : captured.timed_out) = true;
  }
  auto status = FLUYT_TRY(process.wait(over ? Deadline::after_ms(5000) : Deadline::never()));
  if (status) captured.status = *status;
  return captured;
}

}  // namespace fluyt::sys
