#pragma once

#include <cstdint>

#include "base/result.h"
#include "sys/fd.h"

namespace fluyt::image {

/// What one piece of work may take of its disk: so many bytes, and never what is kept free there,
/// whoever else takes some meanwhile. It is asked before the bytes are written, and looks at the
/// disk once a mebibyte: works side by side go past what is kept by as much each, and by what they
/// have asked for and not written yet.
class DiskRoom {
 public:
  /// Without bounds.
  DiskRoom() = default;
  /// `on`, a file or directory on the disk, is borrowed. `keep_free_bytes` 0: it is not looked at.
  DiskRoom(sys::FdRef on, uint64_t max_bytes, uint64_t keep_free_bytes)
      : on_(on), max_bytes_(max_bytes), keep_free_bytes_(keep_free_bytes) {}

  /// kResourceExhausted, with the bound: they are not to be written.
  Result<> take(uint64_t bytes);

 private:
  sys::FdRef on_;
  uint64_t max_bytes_ = UINT64_MAX;
  uint64_t keep_free_bytes_ = 0;
  uint64_t taken_ = 0;
  uint64_t look_at_ = 0;  // how much may be taken before the disk is looked at again
};

/// Bytes that programs may write to the disk of `on`.
Result<uint64_t> free_bytes_of(sys::FdRef on);

}  // namespace fluyt::image
