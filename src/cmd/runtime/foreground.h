#pragma once

#include <optional>

#include "base/result.h"
#include "cmd/runtime/notify.h"
#include "sys/fd.h"
#include "sys/process.h"

/// What run, exec and restore do in the foreground: they stand for the process that they started.
namespace fluyt::commands {

/// Every signal that can be taken is, from take() on: what comes while the process is being made
/// waits for stay(). What we execute has an empty mask again.
class Signals {
 public:
  static Result<Signals> take();
  /// One that asks us to end (HUP, INT, QUIT, TERM) and waits already.
  static std::optional<int> asked_to_end();
  sys::FdRef fd() const { return fd_; }

 private:
  explicit Signals(sys::Fd fd) : fd_(std::move(fd)) {}
  sys::Fd fd_;  // signalfd(2)
};

/// Passes signals on to the process and, with a valid `console`, our standard input and its output,
/// until the process ends; with `notify`, what it says to the service manager. Never waits for one
/// of them alone, and leaves our streams' flags as they are. What the process wrote is passed on to
/// its end, unless a signal asks us to end first. Returns its shell code.
Result<int> stay(const Signals& signals, const sys::Process& process, sys::Fd console,
                 NotifyRelay* notify = nullptr);

}  // namespace fluyt::commands
