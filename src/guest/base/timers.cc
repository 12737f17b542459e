#include "guest/base/timers.h"

namespace fluyt::guest {

Timers::Timers() : thread_([this] { run(); }) {}

Timers::~Timers() { stop(); }

void Timers::stop() {
  {
    std::lock_guard lock(mutex_);
    stopping_ = true;
  }
  changed_.notify_all();
  if (thread_.joinable()) thread_.join();
}

Timers::Id Timers::at(Clock::time_point when, std::function<void()> what) {
  std::lock_guard lock(mutex_);
  const Id id = next_++;
  due_.emplace(when, std::pair(id, std::move(what)));
  changed_.notify_all();
  return id;
}

void Timers::cancel(Id id) {
  if (id == 0) return;
  std::unique_lock lock(mutex_);
  for (auto at = due_.begin(); at != due_.end(); ++at) {
    if (at->second.first != id) continue;
    due_.erase(at);
    return;
  }
  if (std::this_thread::get_id() == thread_.get_id()) return;
  changed_.wait(lock, [&] { return running_ != id; });
}

void Timers::run() {
  std::unique_lock lock(mutex_);
  while (!stopping_) {
    if (due_.empty()) {
      changed_.wait(lock);
      continue;
    }
    const auto first = due_.begin();
    if (const Clock::time_point when = first->first; Clock::now() < when) {
      changed_.wait_until(lock, when);
      continue;
    }
    auto [id, what] = std::move(first->second);
    due_.erase(first);
    running_ = id;
    lock.unlock();
    what();
    lock.lock();
    running_ = 0;
    changed_.notify_all();
  }
}

}  // namespace fluyt::guest
