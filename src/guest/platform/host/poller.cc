#include "guest/platform/host/poller.h"

#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include <cerrno>

namespace fluyt::guest::host {

Poller::Poller()
    : epoll_(epoll_create1(EPOLL_CLOEXEC)),
      stop_(eventfd(0, EFD_CLOEXEC)),
      thread_([this] { run(); }) {
  epoll_event event{};
  event.events = EPOLLIN;
  event.data.fd = stop_.raw();
  epoll_ctl(epoll_.raw(), EPOLL_CTL_ADD, stop_.raw(), &event);
}

Poller::~Poller() {
  const uint64_t one = 1;
  if (write(stop_.raw(), &one, sizeof one) == sizeof one) thread_.join();
}

bool Poller::arm(int fd, uint32_t events, int operation) {
  epoll_event event{};
  event.events = events | EPOLLONESHOT;
  event.data.fd = fd;
  return epoll_ctl(epoll_.raw(), operation, fd, &event) == 0;
}

void Poller::watch(sys::FdRef fd, uint32_t events, WaitQueue& queue) {
  std::lock_guard lock(mutex_);
  const bool known = watched_.contains(fd.raw());
  Watched& one = watched_[fd.raw()];
  one.queue = &queue;
  one.wanted |= events;
  if (!arm(fd.raw(), one.wanted, known ? EPOLL_CTL_MOD : EPOLL_CTL_ADD)) {
    watched_.erase(fd.raw());
    // What is always ready (EPERM) becomes nothing else.
    if (errno != EPERM) queue.wake_all();
  }
}

Errno Poller::follow(sys::FdRef fd, WaitQueue& queue) {
  epoll_event event{};
  event.events = EPOLLIN | EPOLLOUT | EPOLLPRI | EPOLLRDHUP | EPOLLET;
  event.data.fd = fd.raw();
  std::lock_guard lock(mutex_);
  watched_[fd.raw()] = {&queue, 0};
  if (epoll_ctl(epoll_.raw(), EPOLL_CTL_ADD, fd.raw(), &event) == 0) return kOk;
  watched_.erase(fd.raw());
  return Errno(ENOMEM);
}

void Poller::forget(sys::FdRef fd) {
  std::lock_guard lock(mutex_);
  if (watched_.erase(fd.raw()) != 0) epoll_ctl(epoll_.raw(), EPOLL_CTL_DEL, fd.raw(), nullptr);
}

void Poller::run() {
  for (;;) {
    epoll_event events[16];
    const int count = epoll_wait(epoll_.raw(), events, 16, -1);
    for (int i = 0; i < count; ++i) {
      if (events[i].data.fd == stop_.raw()) return;
      std::lock_guard lock(mutex_);
      auto found = watched_.find(events[i].data.fd);
      if (found == watched_.end()) continue;
      Watched& one = found->second;
      const bool ended = (events[i].events & (EPOLLERR | EPOLLHUP)) != 0;
      one.wanted = ended ? 0 : one.wanted & ~events[i].events;
      // The shot was one for all that wait: who waits for something else waits on.
      if (one.wanted != 0 && !arm(found->first, one.wanted, EPOLL_CTL_MOD)) one.wanted = 0;
      one.queue->wake_all(events[i].events);
    }
  }
}

}  // namespace fluyt::guest::host
