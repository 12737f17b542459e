#include "monitor/process/loop.h"

#include <algorithm>
#include <climits>

#include "base/time.h"

namespace fluyt::monitor {

Result<Loop> Loop::create() { return Loop(FLUYT_TRY(sys::Epoll::create())); }

Loop::TimerId Loop::after_ms(int64_t ms, Task task) {
  const TimerId id{now_boot_ns() + std::max<int64_t>(ms, 0) * 1'000'000, next_timer_++};
  timers_.emplace(id, std::move(task));
  return id;
}

void Loop::cancel(TimerId timer) { timers_.erase(timer); }

int Loop::timeout_ms() const {
  if (!deferred_.empty()) return 0;
  if (timers_.empty()) return -1;
  const int64_t left_ns = timers_.begin()->first.first - now_boot_ns();
  return static_cast<int>(std::clamp<int64_t>((left_ns + 999'999) / 1'000'000, 0, INT_MAX));
}

void Loop::run_due() {
  while (!timers_.empty() && timers_.begin()->first.first <= now_boot_ns()) {
    const Task task = std::move(timers_.begin()->second);
    timers_.erase(timers_.begin());
    task();
  }
  while (!deferred_.empty()) {
    std::vector<Task> tasks;
    tasks.swap(deferred_);
    for (const Task& task : tasks) task();
  }
}

Result<> Loop::run_once() {
  FLUYT_TRY(epoll_.wait(timeout_ms()));
  run_due();
  return {};
}

}  // namespace fluyt::monitor
