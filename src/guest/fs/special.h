#pragma once

#include <memory>

#include "guest/vfs/inode.h"

namespace fluyt::guest {

/// A FIFO, a device of ours by its number, or the error of what cannot be opened (sockets, devices
/// of the host).
ErrnoOr<FilePtr> open_special(Inode& inode, DentryPtr path, int flags);

/// An end of a pipe or FIFO, for what moves bytes without a program's memory (splice(2)). What is
/// taken can be put back (File::put_back), even beyond the pipe's capacity.
class PipeEnd : public File {
 public:
  using File::File;
  enum class Wait : uint8_t { kBlock, kNever };
  /// Bytes that fit in; EPIPE, EAGAIN (kNever), kRestartSys.
  virtual ErrnoOr<size_t> wait_for_room(Caller& caller, Wait wait) = 0;
  /// Bytes that are there; 0 at the end.
  virtual ErrnoOr<size_t> wait_for_bytes(Caller& caller, Wait wait) = 0;
  virtual size_t peek(std::span<std::byte> to) = 0;
  virtual size_t take(std::span<std::byte> to) = 0;
  enum class Room : uint8_t { kAsThereIs, kHoweverLittle };
  /// How many went in.
  virtual size_t put(std::span<const std::byte> bytes, Room room) = 0;
  /// The same for both ends.
  virtual const void* pipe() const = 0;
};

struct PipeEnds {
  FilePtr reader;
  FilePtr writer;
};
/// pipe2(2).
PipeEnds make_pipe(int flags);

}  // namespace fluyt::guest
