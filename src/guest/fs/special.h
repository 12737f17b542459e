#pragma once

#include <memory>

#include "guest/vfs/inode.h"

namespace fluyt::guest {

/// A FIFO, a device of ours by its number, or the error of what cannot be opened (sockets, devices
/// of the host).
ErrnoOr<FilePtr> open_special(Inode& inode, DentryPtr path, int flags);

struct PipeEnds {
  FilePtr reader;
  FilePtr writer;
};
/// pipe2(2).
PipeEnds make_pipe(int flags);

}  // namespace fluyt::guest
