#pragma once

#include <string>

#include "base/result.h"
#include "image/layer/reaper.h"
#include "sys/fd.h"

namespace fluyt::image {

/// A folder `staging/<random>` with an empty directory `fs` in it (0755, root's), removed with all
/// it holds unless it was moved into place: by the reaper, from the trash, where there is one.
class Staging {
 public:
  /// `root` is the store's and outlives this, and so does `trash`, the reaper of its folder trash/.
  static Result<Staging> create(sys::FdRef root, Reaper* trash = nullptr);
  Staging(Staging&& other) noexcept;
  Staging& operator=(Staging&&) = delete;
  ~Staging();

  sys::FdRef folder() const { return folder_; }
  sys::FdRef tree() const { return tree_; }
  /// Renames the folder to `path` below the store's root; false, and nothing is done, when
  /// something is there already.
  Result<bool> move_to(const std::string& path);

 private:
  Staging(sys::FdRef root, std::string path, Reaper* trash)
      : root_(root), path_(std::move(path)), trash_(trash) {}
  sys::FdRef root_;
  std::string path_;  // empty: moved
  Reaper* trash_;     // may be none
  sys::Fd folder_;
  sys::Fd tree_;
};

/// Moves `path` below the store's root to the trash and removes it there; absent is success. What
/// cannot be removed stays in the trash, and `logger`, which may be none, is told.
Result<> discard(sys::FdRef root, const std::string& path, Logger* logger);

}  // namespace fluyt::image
