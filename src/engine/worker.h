#pragma once

#include <chrono>
#include <condition_variable>
#include <cstddef>
#include <functional>
#include <map>
#include <mutex>
#include <thread>
#include <vector>

namespace fluyt::engine {

/// A thread, or as many as it was made with, that run what they are given, in order. Each is
/// started by a job that finds no other idle; the destructor waits for the jobs that run and drops
/// the others, which the next start of the engine finds again.
class Worker {
 public:
  explicit Worker(size_t most_threads = 1) : most_threads_(most_threads) {}
  Worker(const Worker&) = delete;
  Worker& operator=(const Worker&) = delete;
  ~Worker() { stop(); }

  void post(std::function<void()> job) { post_after({}, std::move(job)); }
  /// Not before `delay` has passed; meanwhile no thread waits for it but an idle one.
  void post_after(std::chrono::milliseconds delay, std::function<void()> job) {
    const std::scoped_lock lock(mutex_);
    if (stopping_) return;
    jobs_.emplace(Clock::now() + delay, std::move(job));
    if (idle_ < jobs_.size() && threads_.size() < most_threads_)
      threads_.emplace_back([this] { run(); });
    changed_.notify_one();
  }

  void stop() {
    {
      const std::scoped_lock lock(mutex_);
      stopping_ = true;
      changed_.notify_all();
    }
    for (std::thread& thread : threads_) thread.join();
    threads_.clear();
  }

 private:
  using Clock = std::chrono::steady_clock;

  void run() {
    std::unique_lock lock(mutex_);
    while (true) {
      ++idle_;
      while (!stopping_ && (jobs_.empty() || jobs_.begin()->first > Clock::now())) {
        if (jobs_.empty()) {
          changed_.wait(lock);
        } else {
          const Clock::time_point due = jobs_.begin()->first;  // another may take it meanwhile
          changed_.wait_until(lock, due);
        }
      }
      --idle_;
      if (stopping_) return;
      const std::function<void()> job = std::move(jobs_.begin()->second);
      jobs_.erase(jobs_.begin());
      lock.unlock();
      job();
      lock.lock();
    }
  }

  std::mutex mutex_;
  std::condition_variable changed_;
  std::multimap<Clock::time_point, std::function<void()>> jobs_;  // of one moment, in order
  bool stopping_ = false;
  const size_t most_threads_;
  size_t idle_ = 0;
  std::vector<std::thread> threads_;  // none is started once `stopping_`
};

}  // namespace fluyt::engine
