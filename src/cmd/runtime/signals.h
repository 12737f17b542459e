#pragma once

#include <signal.h>

#include <optional>

#include "base/result.h"
#include "sys/fd.h"

namespace fluyt::commands {

/// Signals that wait, blocked, until we look. Those that ask us to end (HUP, INT, QUIT, TERM) do
/// from take() on, but one that we were started to ignore is still ignored. What we execute has an
/// empty mask again.
class Signals {
 public:
  enum class Which {
    kAskingToEnd,
    kAll,  // that can be taken
  };
  static Result<Signals> take(Which held);
  /// What fd() tells of; at first kAskingToEnd, whatever is held.
  Result<> watch(Which which) const;
  /// signalfd(2).
  sys::FdRef fd() const { return fd_; }
  /// One that asks us to end and waits.
  std::optional<int> asked_to_end() const;

 private:
  explicit Signals(const sigset_t& asking) : asking_(asking) {}
  sigset_t asking_;
  sys::Fd fd_;
};

/// Of all signals, those that ask a program to end.
bool asks_to_end(int number);

}  // namespace fluyt::commands
