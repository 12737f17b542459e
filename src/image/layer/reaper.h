#pragma once

#include <chrono>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "base/log.h"
#include "base/result.h"
#include "sys/fd.h"

namespace fluyt::image {

/// sys::remove_tree() where another may be removing the same: what goes meanwhile is passed over.
Result<> remove_beside_others(sys::FdRef folder, const std::string& path);

/// Removes trees behind its caller's back: on ext4 each directory costs several milliseconds, and a
/// container may have written a million files, or a layer that failed. One thread, begun with the
/// first tree. Thread-safe.
class Reaper {
 public:
  /// `logger`, which may be none, is told what cannot be removed from the folder `what`, while this
  /// lives.
  explicit Reaper(sys::Fd folder, std::string what = {}, Logger* logger = nullptr);
  /// Gives what is waiting a second. The rest is swept by whoever opens the folder's store next.
  ~Reaper();
  Reaper(const Reaper&) = delete;
  Reaper& operator=(const Reaper&) = delete;

  /// `name` in the folder: nobody else's any more.
  void add(std::string name);
  /// Removes `names` of `folder` before it returns. What cannot be removed is told to `logger`, and
  /// stays: no container may write what keeps a store from being opened.
  static void sweep(sys::FdRef folder, const std::vector<std::string>& names, std::string_view what,
                    Logger* logger);
  /// Until all that was added is gone; false when it is not within `patience`.
  bool wait_until_done(std::chrono::milliseconds patience) const;

 private:
  struct Work;
  std::shared_ptr<Work> work_;  // the thread's too, which may outlive us
};

}  // namespace fluyt::image
