#include "cmd/runtime/start_process.h"

#include <fcntl.h>
#include <linux/seccomp.h>
#include <poll.h>
#include <signal.h>
#include <sys/ioctl.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <termios.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cstdlib>

#include "base/strings.h"
#include "runtime/seccomp/compile.h"
#include "sys/file.h"
#include "sys/pty.h"
#include "sys/socket.h"

namespace fluyt::commands {

namespace {

const sys::FdRef kIn(STDIN_FILENO);
const sys::FdRef kOut(STDOUT_FILENO);

// Where a person sits, if one does: one stream may be redirected.
int own_terminal() {
  for (const int fd : {STDIN_FILENO, STDOUT_FILENO, STDERR_FILENO}) {
    if (isatty(fd) == 1) return fd;
  }
  return -1;
}

// Our terminal in raw mode for as long as this lives. It goes on turning newlines into new lines,
// for the container's end does not.
class RawTerminal {
 public:
  RawTerminal() : fd_(own_terminal()) {
    if (fd_ < 0 || tcgetattr(fd_, &before_) != 0) {
      fd_ = -1;
      return;
    }
    termios raw = before_;
    cfmakeraw(&raw);
    raw.c_oflag |= OPOST;
    tcsetattr(fd_, TCSANOW, &raw);
  }
  RawTerminal(const RawTerminal&) = delete;
  RawTerminal& operator=(const RawTerminal&) = delete;
  ~RawTerminal() {
    if (fd_ >= 0) tcsetattr(fd_, TCSANOW, &before_);
  }

 private:
  termios before_{};
  int fd_;
};

void copy_window_size(sys::FdRef console) {
  winsize size{};
  const int terminal = own_terminal();
  if (terminal < 0 || ioctl(terminal, TIOCGWINSZ, &size) != 0) return;
  sys::set_window_size(console, size.ws_row, size.ws_col).ignore("the old size is as good");
}

Result<sys::Fd> all_signals() {
  sigset_t all;
  sigfillset(&all);
  sigprocmask(SIG_SETMASK, &all, nullptr);
  sys::Fd fd(signalfd(-1, &all, SFD_CLOEXEC));
  if (!fd.valid()) return Error::from_errno(errno, "signalfd()");
  return fd;
}

// False: that end is closed, and nothing more comes from it.
bool copy_some(sys::FdRef from, sys::FdRef to) {
  std::array<char, 16384> buffer;
  auto got = sys::read_some(from, buffer);
  if (!got.ok() || *got == 0) return false;
  return sys::write_all(to, {buffer.data(), *got}).ok();
}

Result<> pass_signal(sys::FdRef signals, const sys::Process& process, sys::FdRef console) {
  signalfd_siginfo info{};
  FLUYT_TRY(sys::read_some(signals, {reinterpret_cast<char*>(&info), sizeof info}));
  const auto number = static_cast<int>(info.ssi_signo);
  if (number == SIGCHLD || number == SIGURG || number == SIGPIPE) return {};
  if (number == SIGWINCH && console.valid()) {
    copy_window_size(console);
    return {};
  }
  return process.kill(number);
}

}  // namespace

Result<> check_terminal(const Invocation& call, bool terminal, bool detached,
                        const std::string& console_socket) {
  if (terminal && detached && console_socket.empty()) {
    return Error(Code::kInvalidArgument, cat("cannot allocate tty if ", call.launcher.name(),
                                             " will detach without setting console socket"));
  }
  if (!console_socket.empty() && !(terminal && detached)) {
    return Error(Code::kInvalidArgument, cat("cannot use console socket if ", call.launcher.name(),
                                             " will not detach or allocate tty"));
  }
  return {};
}

Result<> send_console(const std::string& path, sys::FdRef master) {
  const sys::Fd socket =
      FLUYT_TRY_CONTEXT(sys::connect_unix(path, SOCK_STREAM), "option --console-socket");
  return sys::send_with_fds(socket, "/dev/ptmx", {master});
}

Result<> write_pid_file(const std::string& path, pid_t pid) {
  return sys::write_file_atomic(sys::kCwd, path, std::to_string(pid), 0644);
}

Result<int> open_descriptors(int count, Log& log) {
  if (count <= 0) return 0;
  int open = 0;
  int last = 2;
  for (const std::string& name : FLUYT_TRY(sys::list_dir("/proc/self/fd"))) {
    const auto fd = parse_number<int>(name);
    // What is ours closes at exec; what was given to us does not.
    if (!fd || *fd < 3 || *fd - 3 >= count || fcntl(*fd, F_GETFD) != 0) continue;
    ++open;
    last = std::max(last, *fd);
  }
  if (open < count) {
    log.warn(cat("option --preserve-fds: ", count, ": only ", open, " of them are open"));
  }
  return last - 2;
}

int add_listen_fds(int preserve_fds, oci::Process& process) {
  const char* text = getenv("LISTEN_FDS");
  const auto count = text == nullptr ? std::nullopt : parse_number<int>(text);
  if (!count || *count <= 0 || *count > 1024) return preserve_fds;
  process.env.push_back(cat("LISTEN_FDS=", *count));
  process.env.emplace_back("LISTEN_PID=1");
  return preserve_fds + *count;
}

void debug_filter(Log& log, const oci::Spec& spec) {
  if (!log.enabled(LogLevel::kDebug) || !spec.linux_ || !spec.linux_->seccomp) return;
  auto program = runtime::seccomp::compile(*spec.linux_->seccomp);
  if (!program.ok()) return;
  // There is no second thread to synchronise with.
  uint32_t flags = program->flags & ~static_cast<uint32_t>(SECCOMP_FILTER_FLAG_TSYNC);
  if (program->notifies) flags |= SECCOMP_FILTER_FLAG_NEW_LISTENER;
  log.debug(cat("seccomp filter flags: ", flags));
  if (!program->unknown_names.empty()) {
    log.debug(cat("linux.seccomp.syscalls: passed over, for no table knows them: ",
                  join(program->unknown_names, " ")));
  }
}

Result<int> stay(const sys::Process& process, sys::Fd console, NotifyRelay* notify) {
  const sys::Fd signals = FLUYT_TRY(all_signals());
  std::optional<RawTerminal> raw;
  if (console.valid()) {
    raw.emplace();
    copy_window_size(console);
  }
  bool input = console.valid();
  bool output = console.valid();
  while (true) {
    std::array<pollfd, 5> entries{{{process.pidfd().raw(), POLLIN, 0},
                                   {signals.raw(), POLLIN, 0},
                                   {output ? console.raw() : -1, POLLIN, 0},
                                   {input ? STDIN_FILENO : -1, POLLIN, 0},
                                   {notify != nullptr ? notify->fd().raw() : -1, POLLIN, 0}}};
    if (poll(entries.data(), entries.size(), -1) < 0 && errno != EINTR)
      return Error::from_errno(errno, "poll()");
    if (entries[1].revents != 0) FLUYT_TRY(pass_signal(signals, process, console));
    if (entries[2].revents != 0) output = copy_some(console, kOut);
    if (entries[3].revents != 0) input = copy_some(kIn, console);
    if (entries[4].revents != 0) notify->pass();
    if (entries[0].revents == 0) continue;
    // What it wrote last is still in the pty: the read ends with EIO once nobody has it open.
    if (output && (entries[2].revents & POLLIN) != 0) continue;
    const auto status = FLUYT_TRY(process.wait(Deadline::never()));
    return status ? status->shell_code() : 255;
  }
}

}  // namespace fluyt::commands
