#pragma once

#include <sys/types.h>

#include <string>
#include <utility>

namespace fluyt::sys {

/// Room on a disk that is kept for the changes that end things, whoever fills the rest: a file that
/// takes it up (fallocate(2)) until it is given up.
class DiskReserve {
 public:
  /// What a database needs to forget all that it holds, several times over.
  static constexpr off_t kBytes = 4L << 20U;

  DiskReserve() = default;
  /// The file `path`, made or made whole again. Where there is no room for it there is none, and a
  /// full disk is met as any program meets it.
  explicit DiskReserve(std::string path);
  /// True when there was room to give up: what failed for want of it is worth another try.
  bool give_up() const;

 private:
  std::string path_;
};

}  // namespace fluyt::sys
