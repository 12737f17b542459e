#pragma once

#include <memory>

#include "guest/platform/host/poller.h"
#include "guest/vfs/inode.h"

namespace fluyt::guest {

inline constexpr uint32_t kPipeSetSize = 0xf0000001;  // fcntl's, as ioctl's of the pipe file
inline constexpr uint32_t kPipeGetSize = 0xf0000002;

/// null, zero, full, random, urandom by number; ENXIO for what we do not have.
ErrnoOr<FilePtr> open_device(Inode& inode, DentryPtr path, int flags, uint64_t device);

/// The rest of opening a FIFO: waits for somebody at the other end. To be called without locks.
Errno wait_for_other_end(Caller& caller, File& file);

/// A descriptor that the sandbox's starter handed in: a stream of the host, or a terminal of it.
class HostStream;
class Terminal;
ErrnoOr<FilePtr> make_host_stream(sys::Fd fd, int flags, std::shared_ptr<host::Poller> poller,
                                  std::shared_ptr<Terminal> terminal);

/// The terminal that the starter sits at. Its line discipline is the host's; sessions and groups
/// are the guest's.
class Terminal {
 public:
  std::mutex mutex;
  int32_t session = 0;
  int32_t foreground = 0;
};

/// The inode of what has no name: streams, anonymous descriptors.
InodePtr make_anonymous_inode(uint32_t mode, uint64_t device);

}  // namespace fluyt::guest
