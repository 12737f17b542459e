#include "engine/event_queue.h"

#include <chrono>

namespace fluyt::engine {

void EventQueue::push(const Event& event) {
  const std::scoped_lock lock(mutex_);
  if (full_since_ || ended_) return;
  if (event.kind == Event::Kind::kEnd) {
    ended_ = true;
  } else if (events_.size() >= limit_) {
    events_.clear();
    full_since_ = now_boot_ns();
  } else {
    events_.push_back(event);
  }
  changed_.notify_one();
}

std::optional<int64_t> EventQueue::full_since() const {
  const std::scoped_lock lock(mutex_);
  return full_since_;
}

EventQueue::State EventQueue::take(std::deque<Event>& out, Deadline deadline) {
  std::unique_lock lock(mutex_);
  const auto something = [this] { return !events_.empty() || full_since_ || ended_; };
  const int left_ms = deadline.poll_timeout_ms();
  if (left_ms < 0) {
    changed_.wait(lock, something);
  } else {
    changed_.wait_for(lock, std::chrono::milliseconds(left_ms), something);
  }
  out.clear();
  out.swap(events_);
  if (full_since_) return State::kFull;
  return ended_ ? State::kEnded : State::kOpen;
}

}  // namespace fluyt::engine
