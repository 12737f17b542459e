#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <utility>
#include <vector>

#include "base/result.h"
#include "sys/epoll.h"

namespace fluyt::monitor {

/// The monitor's one loop: descriptors, timers, and what is to be done after the present event.
class Loop {
 public:
  using Task = std::function<void()>;
  using TimerId = std::pair<int64_t, uint64_t>;
  static constexpr TimerId kNoTimer = {0, 0};

  static Result<Loop> create();
  sys::Epoll& epoll() { return epoll_; }
  TimerId after_ms(int64_t ms, Task task);
  /// A timer that has fired or kNoTimer is left alone.
  void cancel(TimerId timer);
  /// Runs `task` when the present event has been handled: for an object that ends itself.
  void defer(Task task) { deferred_.push_back(std::move(task)); }
  /// Waits for the next events or timer and handles them.
  Result<> run_once();

 private:
  explicit Loop(sys::Epoll epoll) : epoll_(std::move(epoll)) {}
  int timeout_ms() const;
  void run_due();

  sys::Epoll epoll_;
  std::map<TimerId, Task> timers_;  // by boot time in ns
  uint64_t next_timer_ = 1;
  std::vector<Task> deferred_;
};

}  // namespace fluyt::monitor
