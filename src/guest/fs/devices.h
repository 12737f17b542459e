#pragma once

#include <memory>

#include "guest/fs/terminal.h"
#include "guest/platform/host/poller.h"
#include "guest/vfs/inode.h"

namespace fluyt::guest {

inline constexpr uint32_t kPipeSetSize = 0xf0000001;  // fcntl's, as ioctl's of the pipe file
inline constexpr uint32_t kPipeGetSize = 0xf0000002;

/// null, zero, full, random, urandom by number; ENXIO for what we do not have.
ErrnoOr<FilePtr> open_device(Inode& inode, DentryPtr path, int flags, uint64_t device);

/// A descriptor that the sandbox's starter handed in: a stream of the host, or a terminal of it.
/// Its inode is `owner_uid`'s, whose program is to use it, and can be opened again.
ErrnoOr<FilePtr> make_host_stream(sys::Fd fd, int flags, std::shared_ptr<host::Poller> poller,
                                  std::shared_ptr<Terminal> terminal, uint32_t owner_uid);

/// The terminal that the starter sits at. Its line discipline is the host's; sessions and groups
/// are the guest's. (A terminal whose discipline is ours: fs/tty.h.)
class HostTerminal final : public Terminal {
 public:
  ErrnoOr<FilePtr> reopen(const DentryPtr& path, const InodePtr& inode, int flags) override;
  uint64_t device() const override { return make_device(5, 1); }
  /// The stream that /dev/tty gives: for as long as somebody has it open.
  std::weak_ptr<File> stream;
};

/// The inode of what has no name: streams, anonymous descriptors.
InodePtr make_anonymous_inode(uint32_t mode, uint64_t device);

}  // namespace fluyt::guest
