#pragma once

#include <map>
#include <memory>
#include <mutex>
#include <thread>

#include "guest/base/wait.h"
#include "sys/fd.h"

namespace fluyt::guest::host {

/// Wakes queues when descriptors of the host become ready: one thread, epoll, one shot a watch.
class Poller {
 public:
  Poller();
  Poller(const Poller&) = delete;
  Poller& operator=(const Poller&) = delete;
  ~Poller();

  /// Wakes `queue` once when one of `events` (POLL*) holds on `fd`; what was asked for earlier and
  /// did not come is still waited for. A descriptor has one queue. What cannot be polled (a
  /// regular file) is always ready, and wakes at once. The queue lives until `forget`.
  void watch(sys::FdRef fd, uint32_t events, WaitQueue& queue);
  /// Wakes `queue` whenever anything of `fd` changes, with what holds, until `forget`.
  Errno follow(sys::FdRef fd, WaitQueue& queue);
  void forget(sys::FdRef fd);

 private:
  struct Watched {
    WaitQueue* queue = nullptr;
    uint32_t wanted = 0;
  };
  void run();
  bool arm(int fd, uint32_t events, int operation);
  sys::Fd epoll_;
  sys::Fd stop_;
  std::mutex mutex_;
  std::map<int, Watched> watched_;
  std::thread thread_;
};

}  // namespace fluyt::guest::host
