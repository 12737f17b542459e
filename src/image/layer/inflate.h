#pragma once

#include <cstddef>
#include <functional>
#include <memory>
#include <span>
#include <string>
#include <string_view>

#include "base/result.h"

namespace fluyt::image {

/// Takes bytes in the order of the stream; an error ends it.
using ByteSink = std::function<Result<>(std::string_view)>;

/// Where a decoder writes, in the order of the stream.
class InflateTarget {
 public:
  InflateTarget() = default;
  InflateTarget(const InflateTarget&) = delete;
  InflateTarget& operator=(const InflateTarget&) = delete;
  virtual ~InflateTarget() = default;
  /// Where the next bytes go; not empty. An error ends the stream.
  virtual Result<std::span<char>> room() = 0;
  /// So many of them are there, at least one; an error ends the stream.
  virtual Result<> made(size_t bytes) = 0;
};

/// The window that a zstd frame may ask for: 128 MiB, what the zstd program takes by default.
inline constexpr int kMaxZstdWindowLog = 27;

/// Undoes a layer's compression as its bytes arrive. What it is, is told by the first bytes and
/// never by a media type: gzip (any number of members, zeros behind the last), zstd (any number of
/// frames, skippable ones too), or neither, which passes through.
class Inflater {
 public:
  explicit Inflater(ByteSink sink);
  explicit Inflater(InflateTarget& target);
  Inflater(const Inflater&) = delete;
  Inflater& operator=(const Inflater&) = delete;
  ~Inflater();

  /// kDataLoss when the bytes are not what their start promised.
  Result<> push(std::string_view bytes);
  /// The stream has ended: kDataLoss when that is in the middle of something.
  Result<> finish();
  /// "gzip", "zstd" or "none"; "none" too while there were too few bytes to tell.
  std::string_view compression() const;

  /// One way of undoing; for gzip, zstd and none there is one each.
  class Method;

 private:
  Result<> start();
  std::unique_ptr<InflateTarget> own_;  // of a sink
  InflateTarget& target_;
  std::string head_;  // until there is enough to tell
  std::unique_ptr<Method> method_;
};

}  // namespace fluyt::image
