#pragma once

#include <functional>
#include <future>
#include <thread>
#include <utility>

namespace fluyt {

/// A thread that runs before there is work for it, for programs that may start none any more once
/// they have confined themselves. It does one thing.
class StandbyThread {
 public:
  /// Returns once the thread runs, and has made the system calls of its start.
  StandbyThread() {
    thread_ = std::thread([this, task = task_.get_future()]() mutable {
      runs_.set_value();
      if (const auto work = task.get()) work();
    });
    runs_.get_future().wait();
  }
  StandbyThread(const StandbyThread&) = delete;
  StandbyThread& operator=(const StandbyThread&) = delete;
  ~StandbyThread() {
    if (!has_task_) task_.set_value({});
    join();
  }

  /// Once. `task` must not throw.
  void run(std::function<void()> task) {
    has_task_ = true;
    task_.set_value(std::move(task));
  }
  /// Until the task has ended; there must be one. Again: at once.
  void join() {
    if (thread_.joinable()) thread_.join();
  }

 private:
  std::promise<void> runs_;
  std::promise<std::function<void()>> task_;
  bool has_task_ = false;
  std::thread thread_;
};

}  // namespace fluyt
