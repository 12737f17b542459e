#pragma once

#include <array>
#include <condition_variable>
#include <cstddef>
#include <memory>
#include <mutex>
#include <span>
#include <string_view>

namespace fluyt::image {

/// A stream from one thread to another, in pieces, of which a few are under way. Who gives writes
/// where who takes will read.
class Handover {
 public:
  /// Large enough that waking the other thread costs little beside filling one, small enough for
  /// the second-level cache.
  static constexpr size_t kPieceBytes = 256UL << 10U;
  static constexpr size_t kPieces = 3;

  Handover();

  /// The giver's: a piece to fill, kPieceBytes long; waits for one. Empty once stop() was called.
  std::span<char> room();
  /// The first `bytes` of it, at least one, are the next of the stream.
  void give(size_t bytes);
  /// There are no more.
  void end();
  bool stopped() const;

  /// The taker's: what comes next, good until the next call; waits for it. Empty at the end.
  std::string_view take();
  /// Nothing more is taken.
  void stop();

 private:
  std::span<char> piece(size_t number) const;

  const std::unique_ptr<char[]> bytes_;
  mutable std::mutex mutex_;
  std::condition_variable changed_;
  std::array<size_t, kPieces> sizes_{};
  size_t given_ = 0;    // pieces since the beginning,
  size_t taken_ = 0;    // and those of them that may be filled again
  bool holds_ = false;  // the taker has piece `taken_` in hand
  bool ended_ = false;
  bool stopped_ = false;
};

}  // namespace fluyt::image
