#pragma once

#include "base/result.h"
#include "cmd/runtime/notify.h"
#include "cmd/runtime/signals.h"
#include "sys/fd.h"
#include "sys/process.h"

/// What run, exec and restore do in the foreground: they stand for the process that they started.
namespace fluyt::commands {

/// Passes signals on to the process and, with a valid `console`, our standard input and its output,
/// until the process ends; with `notify`, what it says to the service manager. Never waits for one
/// of them alone, and leaves our streams' flags as they are. What the process wrote is passed on to
/// its end, unless a signal asks us to end first. Returns its shell code. `signals` hold all of
/// them, and watch those that ask us to end afterwards.
Result<int> stay(const Signals& signals, const sys::Process& process, sys::Fd console,
                 NotifyRelay* notify = nullptr);

}  // namespace fluyt::commands
