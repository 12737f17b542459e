#pragma once

#include <condition_variable>
#include <cstdint>
#include <functional>
#include <map>
#include <mutex>
#include <thread>

#include "guest/base/wait.h"

namespace fluyt::guest {

/// Calls functions at their times, from one thread of its own. They must be short.
class Timers {
 public:
  using Id = uint64_t;
  Timers();
  Timers(const Timers&) = delete;
  Timers& operator=(const Timers&) = delete;
  ~Timers();

  Id at(Clock::time_point when, std::function<void()> what);
  /// After this returns the function is neither called nor running, unless it is the caller.
  void cancel(Id id);
  /// After this returns nothing is called any more.
  void stop();

 private:
  void run();
  std::mutex mutex_;
  std::condition_variable changed_;
  std::multimap<Clock::time_point, std::pair<Id, std::function<void()>>> due_;
  Id next_ = 1;
  Id running_ = 0;
  bool stopping_ = false;
  std::thread thread_;
};

}  // namespace fluyt::guest
