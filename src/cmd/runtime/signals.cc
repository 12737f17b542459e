#include "cmd/runtime/signals.h"

#include <sys/signalfd.h>

#include <algorithm>
#include <array>
#include <cerrno>

namespace fluyt::commands {

namespace {

constexpr std::array kAsking{SIGHUP, SIGINT, SIGQUIT, SIGTERM};

bool is_ignored(int number) {
  struct sigaction now{};
  return sigaction(number, nullptr, &now) == 0 && now.sa_handler == SIG_IGN;
}

sigset_t all_of_them() {
  sigset_t all;
  sigfillset(&all);
  return all;
}

}  // namespace

bool asks_to_end(int number) { return std::ranges::find(kAsking, number) != kAsking.end(); }

Result<Signals> Signals::take(Which held) {
  sigset_t asking;
  sigemptyset(&asking);
  // A blocked one would come to us even so.
  for (const int number : kAsking) {
    if (!is_ignored(number)) sigaddset(&asking, number);
  }
  const sigset_t blocked = held == Which::kAll ? all_of_them() : asking;
  sigprocmask(SIG_BLOCK, &blocked, nullptr);
  Signals out(asking);
  out.fd_ = sys::Fd(signalfd(-1, &asking, SFD_CLOEXEC));
  if (!out.fd_.valid()) return Error::from_errno(errno, "signalfd()");
  return out;
}

Result<> Signals::watch(Which which) const {
  const sigset_t watched = which == Which::kAll ? all_of_them() : asking_;
  if (signalfd(fd_.raw(), &watched, 0) < 0) return Error::from_errno(errno, "signalfd()");
  return {};
}

std::optional<int> Signals::asked_to_end() const {
  sigset_t waiting;
  sigemptyset(&waiting);
  sigpending(&waiting);
  for (const int number : kAsking) {
    if (sigismember(&asking_, number) == 1 && sigismember(&waiting, number) == 1) return number;
  }
  return std::nullopt;
}

}  // namespace fluyt::commands
