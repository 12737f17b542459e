#pragma once

#include <atomic>
#include <functional>
#include <memory>
#include <thread>
#include <vector>

#include "base/guarded.h"
#include "base/log.h"
#include "base/result.h"
#include "base/time.h"
#include "sys/epoll.h"
#include "sys/fd.h"

namespace fluyt::monitor {

/// One thread that serves descriptors. Everything it watches is touched on that thread alone:
/// others post() what they want done there.
class HubThread {
 public:
  using Task = std::function<void()>;
  static Result<std::shared_ptr<HubThread>> create(Logger& logger);
  ~HubThread();
  HubThread(const HubThread&) = delete;
  HubThread& operator=(const HubThread&) = delete;

  /// Runs `task` on the thread, in order. From any thread. Dropped once stopped.
  void post(Task task);
  /// Runs `task` on the thread at `when`. On the thread only.
  void post_at(Deadline when, Task task);
  /// Ends the thread; what was posted and not run is dropped. Not from the thread itself.
  void stop();
  bool stopped() const { return stopping_; }

  sys::Epoll& epoll() { return epoll_; }  // on the thread only
  Logger& logger() { return logger_; }

 private:
  struct Later {
    Deadline when;
    Task task;
  };
  HubThread(Logger& logger, sys::Epoll epoll, sys::Fd wake)
      : logger_(logger), epoll_(std::move(epoll)), wake_(std::move(wake)) {}
  void run();
  void run_tasks();
  int timeout_ms() const;

  Logger& logger_;
  sys::Epoll epoll_;
  sys::Fd wake_;
  Guarded<std::vector<Task>> tasks_;
  std::vector<Later> later_;
  std::atomic<bool> stopping_ = false;
  std::thread thread_;
};

}  // namespace fluyt::monitor
