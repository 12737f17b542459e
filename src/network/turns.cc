#include "network/turns.h"

#include <algorithm>
#include <chrono>
#include <iterator>
#include <thread>

#include "base/strings.h"

namespace fluyt::network {

Turns::Turns(size_t at_once, int64_t slow_ms)
    : at_once_(std::max<size_t>(at_once, 1)), slow_ns_(slow_ms * 1'000'000) {}

size_t Turns::for_this_machine() {
  return 2 * std::max<size_t>(std::thread::hardware_concurrency(), 1);
}

int64_t Turns::until_free_ms() const {
  const int64_t now_ns = now_boot_ns();
  const auto first =
      std::ranges::find_if(running_, [&](int64_t began) { return now_ns - began < slow_ns_; });
  if (static_cast<size_t>(std::distance(first, running_.end())) < at_once_) return 0;
  return (*first + slow_ns_ - now_ns) / 1'000'000 + 1;
}

Result<Turns::Turn> Turns::take(Deadline deadline) {
  std::unique_lock lock(mutex_);
  const auto me = waiting_.insert(waiting_.end(), next_ticket_++);
  while (true) {
    const bool next = me == waiting_.begin();
    const int64_t free_ms = next ? until_free_ms() : -1;
    if (free_ms == 0) break;
    const int64_t left_ms = deadline.poll_timeout_ms();
    if (left_ms == 0) {
      const size_t before = running_.size();
      waiting_.erase(me);
      changed_.notify_all();
      return Error(Code::kDeadlineExceeded,
                   cat("not started: ", before, " plugins' programs still run"));
    }
    if (free_ms < 0 && left_ms < 0) {
      changed_.wait(lock);
    } else {
      const int64_t wait_ms =
          free_ms < 0 ? left_ms : (left_ms < 0 ? free_ms : std::min(free_ms, left_ms));
      changed_.wait_for(lock, std::chrono::milliseconds(wait_ms));
    }
  }
  waiting_.erase(me);
  running_.push_back(now_boot_ns());
  changed_.notify_all();  // there may be a place for the next too
  return Turn(*this, std::prev(running_.end()));
}

void Turns::end(std::list<int64_t>::iterator place) {
  const std::scoped_lock lock(mutex_);
  running_.erase(place);
  changed_.notify_all();
}

}  // namespace fluyt::network
