#pragma once

#include <functional>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "base/time.h"
#include "sys/fd.h"

/// Moving bytes between a call and descriptors.
namespace fluyt::control {

/// A flag that poll(2) sees. Set from any thread, once.
class Flag {
 public:
  static Result<Flag> create();
  void set() const;
  sys::FdRef fd() const { return fd_; }

 private:
  explicit Flag(sys::Fd fd) : fd_(std::move(fd)) {}
  sys::Fd fd_;  // an eventfd, never read
};

bool wait_until_set(const Flag& flag, Deadline deadline);
enum class First { kFirst, kSecond };
/// Waits for one of them; the first counts when both are set.
First wait_first(const Flag& first, const Flag& second);

/// Writes all of `data` to a non-blocking descriptor, waiting for room until `stop` is set. False
/// when it was stopped or nobody reads any more.
bool write_until(sys::FdRef fd, std::string_view data, const Flag& stop);

struct Source {
  sys::Fd fd;  // closed at its end
  /// False ends the pumping: the caller is gone.
  std::function<bool(std::string_view)> sink;
};
enum class PumpEnd {
  kAllEnded,  // every source is at end of file
  kDrained,   // `finish` was set, and what was there then has been moved
  kStopped,   // `stop` was set, or a sink said no
};
/// Moves bytes from the sources to their sinks.
PumpEnd pump(std::vector<Source>& sources, const Flag& stop, const Flag& finish);

}  // namespace fluyt::control
