#include "cmd/runtime/foreground.h"

#include <poll.h>
#include <signal.h>
#include <sys/ioctl.h>
#include <sys/signalfd.h>
#include <termios.h>
#include <unistd.h>

#include <array>
#include <string>

#include "sys/file.h"
#include "sys/pty.h"

namespace fluyt::commands {

namespace {

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

// One direction between the container's terminal and ours: some bytes on their way, and no more are
// taken until those are gone. A stream of ours is the caller's, who may have it in either mode: we
// write once poll(2) has said that there is room, and then what a pipe with room takes at once.
class Flow {
 public:
  Flow(sys::FdRef from, sys::FdRef to) : from_(from), to_(to), open_(from.valid()) {}

  bool wants_input() const { return open_ && waiting_.empty(); }
  bool wants_room() const { return !waiting_.empty(); }
  bool done() const { return !open_ && waiting_.empty(); }
  void close() {
    open_ = false;
    waiting_.clear();
  }

  void read() {
    waiting_.resize(kAtOnce);
    const ssize_t got = ::read(from_.raw(), waiting_.data(), waiting_.size());
    const bool again = got < 0 && (errno == EAGAIN || errno == EINTR);
    waiting_.resize(got > 0 ? static_cast<size_t>(got) : 0);
    if (got <= 0 && !again) open_ = false;
  }
  void write() {
    const ssize_t put = ::write(to_.raw(), waiting_.data(), waiting_.size());
    if (put >= 0) {
      waiting_.erase(0, static_cast<size_t>(put));
    } else if (errno != EAGAIN && errno != EINTR) {
      close();
    }
  }

 private:
  static constexpr size_t kAtOnce = 4096;  // PIPE_BUF
  sys::FdRef from_;
  sys::FdRef to_;
  bool open_;
  std::string waiting_;
};

// None where nothing is asked: poll(2) tells of errors unasked, again and again.
pollfd entry_of(sys::FdRef fd, short events) {
  return {.fd = events == 0 ? -1 : fd.raw(), .events = events, .revents = 0};
}

short events(bool input, bool room) {
  return static_cast<short>((input ? POLLIN : 0) | (room ? POLLOUT : 0));
}

class Foreground {
 public:
  Foreground(const Signals& signals, const sys::Process& process, sys::FdRef console,
             NotifyRelay* notify)
      : signals_(signals),
        process_(process),
        console_(console),
        notify_(notify),
        out_(console, console.valid() ? sys::FdRef(STDOUT_FILENO) : sys::FdRef()),
        in_(console.valid() ? sys::FdRef(STDIN_FILENO) : sys::FdRef(), console) {}

  /// Until it has ended and what it wrote is passed on.
  Result<> pass_all() {
    while (FLUYT_TRY(pass_some())) {
    }
    return {};
  }

 private:
  Result<bool> pass_some() {
    std::array<pollfd, 6> entries{
        entry_of(process_.pidfd(), events(!ended_, false)),
        entry_of(signals_.fd(), POLLIN),
        entry_of(console_, events(out_.wants_input(), in_.wants_room())),
        entry_of(sys::FdRef(STDIN_FILENO), events(in_.wants_input() && !ended_, false)),
        entry_of(sys::FdRef(STDOUT_FILENO), events(false, out_.wants_room())),
        entry_of(notify_ != nullptr ? notify_->fd() : sys::FdRef(),
                 events(notify_ != nullptr, false))};
    // Of an ended process there is only what the pty holds now: others may have it open for ever.
    const bool draining = ended_ && !out_.wants_room();
    if (poll(entries.data(), entries.size(), draining ? 0 : -1) < 0 && errno != EINTR)
      return Error::from_errno(errno, "poll()");
    const bool shows_more = (entries[2].revents & POLLIN) != 0;
    if (entries[1].revents != 0) FLUYT_TRY(pass_signal());
    // The read ends with EIO once nobody has the terminal open.
    if (out_.wants_input() && (entries[2].revents & ~POLLOUT) != 0) out_.read();
    if (in_.wants_room() && (entries[2].revents & POLLOUT) != 0) {
      in_.write();
    } else if ((entries[2].revents & (POLLHUP | POLLERR)) != 0) {
      in_.close();
    }
    if (entries[3].revents != 0) in_.read();
    if (entries[4].revents != 0) out_.write();
    const bool says_more = notify_ != nullptr && entries[5].revents != 0;
    if (says_more) notify_->pass();
    ended_ = ended_ || entries[0].revents != 0;
    if (ended_ && says_more) ++last_messages_;
    return !ended_ || out_.wants_room() || (shows_more && !out_.done()) ||
           (says_more && last_messages_ < kMaxLastMessages) || !draining;
  }

  Result<> pass_signal() {
    signalfd_siginfo info{};
    FLUYT_TRY(sys::read_some(signals_.fd(), {reinterpret_cast<char*>(&info), sizeof info}));
    const auto number = static_cast<int>(info.ssi_signo);
    if (number == SIGCHLD || number == SIGURG || number == SIGPIPE) return {};
    if (number == SIGWINCH && console_.valid()) {
      copy_window_size(console_);
      return {};
    }
    // Whoever should read its last words does not.
    if (ended_ && asks_to_end(number)) out_.close();
    return process_.kill(number);
  }

  const Signals& signals_;
  const sys::Process& process_;
  sys::FdRef console_;
  NotifyRelay* notify_;
  Flow out_;
  Flow in_;
  bool ended_ = false;
  // Of an ended one's messages there are as many as its socket holds; others may go on for ever.
  static constexpr int kMaxLastMessages = 1000;
  int last_messages_ = 0;
};

}  // namespace

Result<int> stay(const Signals& signals, const sys::Process& process, sys::Fd console,
                 NotifyRelay* notify) {
  std::optional<RawTerminal> raw;
  if (console.valid()) {
    // The master is ours alone, unlike our streams.
    FLUYT_TRY(sys::set_nonblocking(console, true));
    raw.emplace();
    copy_window_size(console);
  }
  Foreground foreground(signals, process, console, notify);
  FLUYT_TRY(signals.watch(Signals::Which::kAll));
  FLUYT_TRY(foreground.pass_all());
  FLUYT_TRY(signals.watch(Signals::Which::kAskingToEnd));
  const auto status = FLUYT_TRY(process.wait(Deadline::never()));
  return status ? status->shell_code() : 255;
}

}  // namespace fluyt::commands
