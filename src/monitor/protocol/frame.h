#pragma once

#include <cstddef>
#include <deque>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "sys/fd.h"

namespace fluyt::monitor {

inline constexpr size_t kMaxFrameBytes = 16UL << 20U;

/// Cuts a byte stream into frames: four bytes of length, big-endian, then that many bytes of JSON.
/// Descriptors arrive beside the stream; a frame says in its JSON how many of them are its own.
/// Bytes are kept only as far as they have arrived, whatever a length claims.
class FrameReader {
 public:
  /// Bytes and descriptors of one recvmsg(2). More than 32 unclaimed descriptors are
  /// kInvalidArgument.
  Result<> feed(std::string_view bytes, std::vector<sys::Fd> fds);
  /// The next whole frame's JSON; nothing when more must be fed first. A length of 0 or above
  /// kMaxFrameBytes is kInvalidArgument: the stream is lost, drop the connection.
  Result<std::optional<std::string>> next();
  /// The oldest `count` descriptors, for the frame that next() gave.
  Result<std::vector<sys::Fd>> take_fds(size_t count);
  /// Nothing is kept of a frame to come.
  bool empty() const { return start_ == buffer_.size() && fds_.empty(); }
  enum class Read { kData, kNothing, kEnd };
  /// What one read of the non-blocking `socket` gives goes through feed().
  Result<Read> read_from(sys::FdRef socket);

 private:
  std::string buffer_;
  size_t start_ = 0;  // the bytes before it were given out
  std::deque<sys::Fd> fds_;
};

/// Frames on their way out, bounded: never blocks.
class FrameWriter {
 public:
  explicit FrameWriter(size_t limit_bytes) : limit_bytes_(limit_bytes) {}
  /// False when the peer lags by more than the limit: drop it. Takes the descriptors.
  bool push(std::string_view json, std::vector<sys::Fd> fds = {});
  /// Sends what the socket takes now. kUnavailable when the peer is gone.
  Result<> flush(sys::FdRef socket);
  bool empty() const { return queue_.empty(); }

 private:
  struct Frame {
    std::string bytes;
    size_t sent = 0;
    std::vector<sys::Fd> fds;
  };
  size_t limit_bytes_;
  size_t queued_bytes_ = 0;
  std::deque<Frame> queue_;
};

}  // namespace fluyt::monitor
