#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <sys/signalfd.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <cstring>

#include "base/strings.h"
#include "cmd/rung/rung.h"
#include "guest/platform/host/confine.h"
#include "guest/sandbox/packet.h"
#include "sys/file.h"
#include "sys/pty.h"
#include "sys/socket.h"

namespace fluyt::rung {

namespace {

using guest::ControlPacket;

constexpr int kFailed = 255;
constexpr size_t kMaxPacket = sizeof(ControlPacket) + guest::kMaxControlText;

Result<> send(sys::FdRef control, const ControlPacket& packet,
              const std::vector<sys::FdRef>& descriptors = {}) {
  return sys::send_with_fds(control,
                            std::string_view(reinterpret_cast<const char*>(&packet), sizeof packet),
                            descriptors);
}

struct Answer {
  ControlPacket head;
  std::string text;
};

// Nothing: the sandbox has ended.
std::optional<Answer> receive(sys::FdRef control) {
  std::array<char, kMaxPacket> bytes{};
  auto got = sys::receive_with_fds(control, bytes.data(), bytes.size());
  Answer out;
  if (!got.ok() || got->size < sizeof out.head) return std::nullopt;
  std::memcpy(&out.head, bytes.data(), sizeof out.head);
  out.text.assign(bytes.data() + sizeof out.head, got->size - sizeof out.head);
  return out;
}

void report(sys::FdRef to, Code code, std::string_view sentence) {
  const auto byte = static_cast<char>(code);
  sys::write_all(to, cat(std::string_view(&byte, 1), sentence)).ignore("nobody is there to read");
}

// As the program ended, so that whoever waits for us sees it.
[[noreturn]] void end_as(int status) {
  if (WIFEXITED(status)) _exit(WEXITSTATUS(status));
  const int number = WTERMSIG(status);
  signal(number, SIG_DFL);
  raise(number);
  sigset_t one;
  sigemptyset(&one);
  sigaddset(&one, number);
  sigprocmask(SIG_UNBLOCK, &one, nullptr);
  _exit(128 + number);
}

sigset_t passed_on() {
  sigset_t set;
  sigfillset(&set);
  for (const int own : {SIGCHLD, SIGSEGV, SIGBUS, SIGILL, SIGFPE, SIGTRAP, SIGSYS, SIGABRT})
    sigdelset(&set, own);
  return set;
}

// Who is confined ends without a core.
Result<> confine() {
  FLUYT_TRY(guest::host::stay_among_children());
  FLUYT_TRY(guest::host::drop_privileges());
  return guest::host::confine_messenger();
}

// Until the program has ended: signals there, its end here.
[[noreturn]] void keep(sys::FdRef control, sys::FdRef signals) {
  for (;;) {
    std::array<pollfd, 2> both = {{{control.raw(), POLLIN, 0}, {signals.raw(), POLLIN, 0}}};
    if (poll(both.data(), both.size(), -1) < 0) continue;
    if (both[1].revents != 0) {
      signalfd_siginfo info{};
      if (::read(signals.raw(), &info, sizeof info) == sizeof info) {
        send(control, {.kind = ControlPacket::kSignal,
                       .value = static_cast<int32_t>(info.ssi_signo),
                       .flags = info.ssi_code == SI_KERNEL ? ControlPacket::kFromTerminal : 0U})
            .ignore("its end is what is read next");
      }
    }
    if (both[0].revents == 0) continue;
    const auto answer = receive(control);
    if (!answer) end_as(SIGKILL);
    if (answer->head.kind == ControlPacket::kExited) end_as(answer->head.value);
  }
}

}  // namespace

// Words are descriptors: the program's text, the report, the control socket.
void run_keeper(const std::vector<std::string_view>& words) {
  if (words.size() != 3) _exit(kFailed);
  sys::Fd text(descriptor_of(words[0]));
  sys::Fd told(descriptor_of(words[1]));
  const sys::Fd control(descriptor_of(words[2]));
  const sigset_t set = passed_on();
  sigprocmask(SIG_BLOCK, &set, nullptr);
  const sys::Fd signals(signalfd(-1, &set, SFD_CLOEXEC));
  if (isatty(STDIN_FILENO) == 1) {
    sys::set_controlling_terminal(sys::FdRef(STDIN_FILENO))
        .ignore("then no signal comes from it, and the program runs all the same");
  }
  if (const auto confined = confine(); !confined.ok()) {
    report(told, confined.error().code(), confined.error().message());
    _exit(kFailed);
  }
  auto sent =
      send(control, {.kind = ControlPacket::kExec},
           {text, sys::FdRef(STDIN_FILENO), sys::FdRef(STDOUT_FILENO), sys::FdRef(STDERR_FILENO)});
  const auto answer = sent.ok() ? receive(control) : std::nullopt;
  if (!answer) {
    report(told, Code::kFailedPrecondition, "exec: the container has ended");
    _exit(kFailed);
  }
  if (answer->head.kind != ControlPacket::kStarted) {
    report(told, static_cast<Code>(answer->head.value), answer->text);
    _exit(kFailed);
  }
  // The streams are the program's alone: whoever reads from them sees its end.
  text.reset();
  for (const int stream : {STDIN_FILENO, STDOUT_FILENO, STDERR_FILENO}) close(stream);
  told.reset();
  keep(control, signals);
}

}  // namespace fluyt::rung
