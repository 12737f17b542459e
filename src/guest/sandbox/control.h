#pragma once

#include <memory>

#include "guest/fs/tty.h"
#include "guest/sandbox/packet.h"
#include "guest/sandbox/pod.h"
#include "guest/task/task.h"
#include "sys/fd.h"

/// The sandbox's end of the control socket.
namespace fluyt::guest {

/// A program that was started from outside, as those who did see it.
struct Outside {
  ProcessPtr process;
  std::shared_ptr<Terminal> terminal;  // its controlling one; null without
  std::shared_ptr<TtyBridge> bridge;   // null where the terminal's discipline is the host's
};

/// Starts the thread that takes connections for a container. `listener` listens already; programs
/// with a terminal get one of `terminals`, or where that is null the host's. The thread ends when
/// the listener is shut down.
ErrnoOr<std::shared_ptr<sys::Fd>> serve_control(Pod& pod, const ContainerPtr& container,
                                                sys::Fd listener, std::shared_ptr<Pts> terminals);

/// A signal that came from outside. What a terminal of the host's raised is its own business where
/// it only carries bytes, but for its new size; else it goes to the foreground group. Without
/// kernel.lock.
void deliver(Kernel& kernel, const Outside& to, int signal, bool from_terminal);

}  // namespace fluyt::guest
