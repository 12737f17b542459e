#pragma once

#include <cstdint>
#include <string_view>

namespace fluyt::image {

/// A CRC-64 (ECMA-182, reflected, as xz has it) computed as the bytes go by. It is for what disks
/// and memory do to bytes: of such changes it misses one in 2^64, at some percent of the cost of a
/// digest. It proves nothing against somebody who can write to the store.
class Checksum {
 public:
  void update(std::string_view bytes);
  /// As update() of so many zeros, in a time that hardly grows with their number.
  void zeros(uint64_t count);
  uint64_t value() const { return value_; }

 private:
  uint64_t value_ = 0;
};

}  // namespace fluyt::image
