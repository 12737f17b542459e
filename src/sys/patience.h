#pragma once

#include <poll.h>

#include <cstdint>
#include <span>

#include "base/result.h"
#include "base/time.h"
#include "sys/fd.h"

namespace fluyt::sys {

/// Somebody may ask that a wait end before its deadline.
struct Stop {
  FdRef fd;              // can be read, and goes on to be, once they do; invalid: nobody does
  int64_t grace_ms = 0;  // how much longer is waited then
};

/// How long something is waited for: until a deadline, or until a stop and its grace.
class Patience {
 public:
  explicit Patience(Deadline deadline, Stop stop = {}) : deadline_(deadline), stop_(stop) {}

  /// poll(2) for as long as this lasts, over any EINTR. False: it is over, and none of `entries`
  /// (at most 7) is ready, or was so before: what is ready always does not make it last longer.
  Result<bool> poll(std::span<pollfd> entries);
  /// The same for one descriptor that is to be read, or has an end.
  Result<bool> wait_readable(FdRef fd);
  /// That it is over, or soon is, is the stop's doing.
  bool is_stopped() const { return stopped_; }

 private:
  Deadline deadline_;
  Stop stop_;
  bool stopped_ = false;
  bool asked_before_ = false;
};

}  // namespace fluyt::sys
