#pragma once

#include <cstdint>

#include "base/result.h"
#include "image/layer/tar.h"

namespace fluyt::image {

/// How many directories the names and links of a layer may lead through. A name costs as many as it
/// has parts; but a symlink of a few bytes may lead through two thousand, forty such links one
/// after the other through eighty thousand, for every entry that is below one. So each entry brings
/// what its own name and link can cost, and something for links that lead far.
class WalkBudget {
 public:
  void grant(const TarEntry& entry) {
    allowed_ += kPerEntry + entry.path.size() + entry.link.size();
  }
  void grant_all() { allowed_ = UINT64_MAX; }
  /// kResourceExhausted, with the number, when that is more than there is.
  Result<> spend(uint64_t directories);

 private:
  static constexpr uint64_t kFree = 1'000'000;
  static constexpr uint64_t kPerEntry = 256;
  uint64_t allowed_ = kFree;
  uint64_t spent_ = 0;
};

}  // namespace fluyt::image
