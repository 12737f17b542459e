#pragma once

#include <chrono>
#include <memory>
#include <string>

#include "sys/fd.h"

namespace fluyt::image {

/// Removes trees behind its caller's back: on ext4 each directory costs several milliseconds, and a
/// container may have written a million files, or a layer that failed. One thread, begun with the
/// first tree. Thread-safe.
class Reaper {
 public:
  explicit Reaper(sys::Fd folder);
  /// Gives what is waiting a second. The rest is swept by whoever opens the folder's store next.
  ~Reaper();
  Reaper(const Reaper&) = delete;
  Reaper& operator=(const Reaper&) = delete;

  /// `name` in the folder: nobody else's any more.
  void add(std::string name);
  /// Until all that was added is gone; false when it is not within `patience`.
  bool wait_until_done(std::chrono::milliseconds patience) const;

 private:
  struct Work;
  std::shared_ptr<Work> work_;  // the thread's too, which may outlive us
};

}  // namespace fluyt::image
