#include "cmd/fluyt/terminal.h"

#include <poll.h>
#include <signal.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>
#include <sys/signalfd.h>
#include <termios.h>
#include <unistd.h>

#include <array>
#include <cerrno>

#include "sys/file.h"

namespace fluyt::cli {

namespace {

int number_of(Stream stream) { return static_cast<int>(stream); }

class SystemInput final : public Input {
 public:
  SystemInput(sys::Fd signals, sys::Fd stopped, Read standard_input)
      : signals_(std::move(signals)),
        stopped_(std::move(stopped)),
        reading_(standard_input == Read::kYes) {}

  InputEvent next() override { return next(reading_); }
  InputEvent next_signal() override { return next(false); }
  void resume() override {
    uint64_t count = 0;
    (void)!::read(stopped_.raw(), &count, sizeof count);  // fails only when it was not stopped
  }
  void stop() override {
    const uint64_t one = 1;
    (void)!::write(stopped_.raw(), &one, sizeof one);  // fails only when it is set already
  }

 private:
  InputEvent next(bool with_bytes);
  InputEvent take_signal();
  InputEvent take_bytes();

  sys::Fd signals_;
  sys::Fd stopped_;
  bool reading_;
};

InputEvent SystemInput::take_signal() {
  signalfd_siginfo info{};
  if (::read(signals_.raw(), &info, sizeof info) != sizeof info)
    return {InputEvent::Kind::kStopped, {}};
  const int signal = static_cast<int>(info.ssi_signo);
  if (signal == SIGWINCH) return {InputEvent::Kind::kResized, {}};
  return {InputEvent::Kind::kSignal, {}, signal};
}

InputEvent SystemInput::take_bytes() {
  std::array<char, 16384> buffer;
  auto got = sys::read_some(sys::FdRef(STDIN_FILENO), buffer);
  if (got.ok() && *got > 0) return {InputEvent::Kind::kBytes, std::string(buffer.data(), *got)};
  reading_ = false;
  return {InputEvent::Kind::kEnd, {}};
}

InputEvent SystemInput::next(bool with_bytes) {
  while (true) {
    std::array<pollfd, 3> entries{{{stopped_.raw(), POLLIN, 0},
                                   {signals_.raw(), POLLIN, 0},
                                   {with_bytes ? STDIN_FILENO : -1, POLLIN, 0}}};
    if (::poll(entries.data(), entries.size(), -1) < 0) {
      if (errno == EINTR) continue;
      return {InputEvent::Kind::kStopped, {}};
    }
    if (entries[0].revents != 0) return {InputEvent::Kind::kStopped, {}};
    if (entries[1].revents != 0) return take_signal();
    if (entries[2].revents != 0) return take_bytes();
  }
}

}  // namespace

bool is_terminal(Stream stream) { return ::isatty(number_of(stream)) == 1; }

TerminalSize terminal_size(Stream stream) {
  winsize size{};
  TerminalSize out;
  if (::ioctl(number_of(stream), TIOCGWINSZ, &size) != 0) return out;
  if (size.ws_col != 0) out.width = size.ws_col;
  if (size.ws_row != 0) out.height = size.ws_row;
  return out;
}

bool write_out(Stream stream, std::string_view data) {
  return sys::write_all(sys::FdRef(number_of(stream)), data).ok();
}

struct RawMode::Saved {
  termios mode{};
};

RawMode::RawMode(std::unique_ptr<Saved> saved) : saved_(std::move(saved)) {}
RawMode::RawMode(RawMode&& other) noexcept = default;

RawMode::~RawMode() {
  if (saved_) ::tcsetattr(STDIN_FILENO, TCSADRAIN, &saved_->mode);
}

Result<RawMode> RawMode::enter() {
  auto saved = std::make_unique<Saved>();
  if (::tcgetattr(STDIN_FILENO, &saved->mode) != 0)
    return Error::from_errno(errno, "tcgetattr(stdin)");
  termios raw = saved->mode;
  ::cfmakeraw(&raw);
  if (::tcsetattr(STDIN_FILENO, TCSADRAIN, &raw) != 0) {
    return Error::from_errno(errno, "tcsetattr(stdin, raw)");
  }
  return RawMode(std::move(saved));
}

Result<std::unique_ptr<Input>> Input::create(Read standard_input) {
  sigset_t set;
  sigemptyset(&set);
  for (const int signal : {SIGINT, SIGTERM, SIGHUP, SIGQUIT, SIGUSR1, SIGUSR2, SIGWINCH}) {
    sigaddset(&set, signal);
  }
  ::pthread_sigmask(SIG_BLOCK, &set, nullptr);
  sys::Fd signals(::signalfd(-1, &set, SFD_CLOEXEC));
  if (!signals.valid()) return Error::from_errno(errno, "signalfd()");
  sys::Fd stopped(::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
  if (!stopped.valid()) return Error::from_errno(errno, "eventfd()");
  return std::unique_ptr<Input>(
      std::make_unique<SystemInput>(std::move(signals), std::move(stopped), standard_input));
}

bool asks_to_end(int signal) { return signal == SIGTERM || signal == SIGHUP; }

bool asks_impatiently(int signal) { return signal == SIGINT || signal == SIGTERM; }

}  // namespace fluyt::cli
