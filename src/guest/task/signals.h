#pragma once

#include <array>
#include <cstdint>
#include <deque>
#include <memory>
#include <mutex>
#include <optional>

#include "guest/abi/registers.h"

/// signal(7), as values. Everything here is guarded by the kernel's lock.
namespace fluyt::guest {

inline constexpr int kSignals = 64;
using SignalSet = uint64_t;
constexpr SignalSet signal_bit(int signal) { return uint64_t{1} << (signal - 1); }

/// struct sigaction as rt_sigaction(2) has it.
struct SignalAction {
  uint64_t handler = 0;  // 0: default, 1: ignore
  uint64_t flags = 0;
  uint64_t restorer = 0;
  uint64_t mask = 0;
};
static_assert(sizeof(SignalAction) == 32);

/// A thread group's handlers; shared with CLONE_SIGHAND.
struct SignalActions {
  std::array<SignalAction, kSignals + 1> of;
};

/// What a signal does when nothing is installed.
enum class DefaultAction : uint8_t { kTerminate, kCore, kIgnore, kStop, kContinue };
DefaultAction default_action(int signal);

/// Signals sent and not yet taken: of a thread, or of its group. A standard signal is kept once.
class PendingSignals {
 public:
  void add(const SignalInfo& info);
  SignalSet set() const { return set_; }
  size_t queued() const { return queue_.size(); }
  /// The lowest one outside `blocked`; synchronous faults first.
  std::optional<SignalInfo> take(SignalSet blocked);
  void discard(SignalSet signals);

  static constexpr size_t kMaxQueued = 4096;

 private:
  SignalSet set_ = 0;
  std::deque<SignalInfo> queue_;
};

}  // namespace fluyt::guest
