#pragma once

#include <sys/epoll.h>

#include <cstdint>
#include <functional>
#include <unordered_map>
#include <vector>

#include "base/result.h"
#include "sys/fd.h"

namespace fluyt::sys {

/// epoll(7) with a function for each descriptor. One thread. A function may add and remove watches,
/// its own too; one that was removed is not called any more, even for an event already fetched.
class Epoll {
 public:
  using Handler = std::function<void(uint32_t events)>;
  static Result<Epoll> create();
  /// `events` are EPOLLIN and friends, level-triggered unless EPOLLET is among them. The descriptor
  /// is borrowed until remove().
  Result<> add(FdRef fd, uint32_t events, Handler handler);
  Result<> change(FdRef fd, uint32_t events);
  void remove(FdRef fd);
  /// Waits at most `timeout_ms` (-1: for ever) and calls what is ready. Returns how many were.
  Result<int> wait(int timeout_ms);
  FdRef fd() const { return fd_; }

 private:
  explicit Epoll(Fd fd) : fd_(std::move(fd)) {}
  struct Watch {
    uint64_t token;
    Handler handler;
  };
  Fd fd_;
  uint64_t next_token_ = 1;
  std::unordered_map<int, Watch> watches_;
};

}  // namespace fluyt::sys
