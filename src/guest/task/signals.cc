#include "guest/task/signals.h"

#include <signal.h>

#include <algorithm>

namespace fluyt::guest {

DefaultAction default_action(int signal) {
  switch (signal) {
    case SIGCHLD:
    case SIGURG:
    case SIGWINCH:
      return DefaultAction::kIgnore;
    case SIGCONT:
      return DefaultAction::kContinue;
    case SIGSTOP:
    case SIGTSTP:
    case SIGTTIN:
    case SIGTTOU:
      return DefaultAction::kStop;
    case SIGQUIT:
    case SIGILL:
    case SIGTRAP:
    case SIGABRT:
    case SIGBUS:
    case SIGFPE:
    case SIGSEGV:
    case SIGXCPU:
    case SIGXFSZ:
    case SIGSYS:
      return DefaultAction::kCore;
    default:
      return DefaultAction::kTerminate;
  }
}

void PendingSignals::add(const SignalInfo& info) {
  const SignalSet bit = signal_bit(info.signo);
  constexpr int kFirstRealTime = 32;
  if (info.signo < kFirstRealTime && (set_ & bit) != 0) return;
  set_ |= bit;
  if (queue_.size() < kMaxQueued) queue_.push_back(info);
}

std::optional<SignalInfo> PendingSignals::take(SignalSet blocked) {
  SignalSet ready = set_ & ~blocked;
  if (ready == 0) return std::nullopt;
  constexpr SignalSet kSynchronous = signal_bit(SIGSEGV) | signal_bit(SIGBUS) | signal_bit(SIGILL) |
                                     signal_bit(SIGTRAP) | signal_bit(SIGFPE) | signal_bit(SIGSYS);
  if ((ready & kSynchronous) != 0) ready &= kSynchronous;
  const int signal = __builtin_ctzll(ready) + 1;
  SignalInfo info;
  info.signo = signal;
  const auto of = [&](const SignalInfo& queued) { return queued.signo == signal; };
  auto found = std::find_if(queue_.begin(), queue_.end(), of);
  if (found != queue_.end()) {
    info = *found;
    found = queue_.erase(found);
  }
  if (std::find_if(queue_.begin(), queue_.end(), of) == queue_.end()) set_ &= ~signal_bit(signal);
  return info;
}

void PendingSignals::discard(SignalSet signals) {
  set_ &= ~signals;
  std::erase_if(queue_,
                [&](const SignalInfo& info) { return (signals & signal_bit(info.signo)) != 0; });
}

}  // namespace fluyt::guest
