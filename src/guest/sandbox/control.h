#pragma once

#include <memory>

#include "guest/platform/host/poller.h"
#include "guest/sandbox/packet.h"
#include "guest/task/task.h"
#include "sys/fd.h"

/// The sandbox's end of the control socket.
namespace fluyt::guest {

/// Starts the thread that takes connections. `listener` listens already.
Errno serve_control(Kernel& kernel, sys::Fd listener, std::shared_ptr<host::Poller> poller);

/// What came from outside: a terminal's to its foreground group, the rest to the process. Without
/// kernel.lock.
void deliver(Kernel& kernel, const ProcessPtr& process, const std::shared_ptr<Terminal>& terminal,
             int signal, bool from_terminal);

}  // namespace fluyt::guest
