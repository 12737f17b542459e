#pragma once

#include <memory>
#include <string>

#include "sys/fd.h"

namespace fluyt::image {

/// Removes trees behind its caller's back: on ext4 each directory costs several milliseconds, and a
/// container may have written a million files. One thread, begun with the first tree. Thread-safe.
class Reaper {
 public:
  explicit Reaper(sys::Fd folder);
  /// Gives what is waiting a second. The rest is swept by the next Roots::open().
  ~Reaper();
  Reaper(const Reaper&) = delete;
  Reaper& operator=(const Reaper&) = delete;

  /// `name` in the folder: nobody else's any more.
  void add(std::string name);

 private:
  struct Work;
  std::shared_ptr<Work> work_;  // the thread's too, which may outlive us
};

}  // namespace fluyt::image
