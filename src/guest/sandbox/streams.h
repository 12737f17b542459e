#pragma once

#include <array>
#include <memory>

#include "base/result.h"
#include "guest/fs/devices.h"
#include "guest/fs/tty.h"
#include "guest/platform/host/poller.h"
#include "guest/task/task.h"
#include "sys/fd.h"

/// The standard streams of a program that is started from outside.
namespace fluyt::guest {

struct Streams {
  std::array<FilePtr, 3> files;
  std::shared_ptr<Terminal> terminal;  // the controlling one; null without
  std::shared_ptr<TtyBridge> bridge;   // where it is the guest's own; null where it is the host's
};

/// Of three descriptors of the host. Where the first that is a terminal can be bridged to one of
/// the guest's own (`terminals`, which may be null), all that are terminals are that one; else they
/// are `of_host`'s, whose discipline is the host's.
Result<Streams> open_streams(Kernel& kernel, std::array<sys::Fd, 3> descriptors,
                             const std::shared_ptr<host::Poller>& poller,
                             const std::shared_ptr<Pts>& terminals, const Credentials& owner,
                             const std::shared_ptr<HostTerminal>& of_host);

}  // namespace fluyt::guest
