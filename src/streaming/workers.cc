#include "streaming/workers.h"

#include <chrono>

namespace fluyt::streaming {

Workers::~Workers() {
  {
    const std::scoped_lock lock(mutex_);
    ending_ = true;
  }
  changed_.notify_all();
  for (std::thread& thread : threads_) thread.join();
}

void Workers::post(std::function<void()> work) {
  {
    const std::scoped_lock lock(mutex_);
    waiting_.push_back(std::move(work));
    if (waiting_.size() > idle_ && threads_.size() < most_) {
      threads_.emplace_back([this] { run(); });
    }
  }
  changed_.notify_all();
}

bool Workers::drain(Deadline deadline) {
  std::unique_lock lock(mutex_);
  while (busy_ != 0 || !waiting_.empty()) {
    const int left_ms = deadline.poll_timeout_ms();
    if (left_ms == 0) return false;
    if (left_ms < 0) {
      changed_.wait(lock);
    } else {
      changed_.wait_for(lock, std::chrono::milliseconds(left_ms));
    }
  }
  return true;
}

void Workers::run() {
  std::unique_lock lock(mutex_);
  while (true) {
    ++idle_;
    changed_.wait(lock, [this] { return !waiting_.empty() || ending_; });
    --idle_;
    if (waiting_.empty()) return;
    auto work = std::move(waiting_.front());
    waiting_.pop_front();
    ++busy_;
    lock.unlock();
    work();
    lock.lock();
    --busy_;
    changed_.notify_all();
  }
}

}  // namespace fluyt::streaming
