#include "monitor/client/hub_thread.h"

#include <sys/eventfd.h>
#include <unistd.h>

#include <cerrno>
#include <csignal>
#include <cstdint>
#include <utility>

namespace fluyt::monitor {

Result<std::shared_ptr<HubThread>> HubThread::create(Logger& logger) {
  auto epoll = FLUYT_TRY(sys::Epoll::create());
  sys::Fd wake(eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
  if (!wake.valid()) return Error::from_errno(errno, "eventfd()");
  std::shared_ptr<HubThread> hub(new HubThread(logger, std::move(epoll), std::move(wake)));
  HubThread* self = hub.get();
  FLUYT_TRY(self->epoll_.add(self->wake_, EPOLLIN, [self](uint32_t) {
    uint64_t count = 0;
    (void)!::read(self->wake_.raw(), &count, sizeof count);
  }));
  // Signals are the program's: none is delivered to this thread.
  sigset_t all;
  sigset_t before;
  sigfillset(&all);
  pthread_sigmask(SIG_SETMASK, &all, &before);
  self->thread_ = std::thread([self] { self->run(); });
  pthread_sigmask(SIG_SETMASK, &before, nullptr);
  return hub;
}

// The hub stops the thread before it lets go of us, so we are never destroyed on it.
HubThread::~HubThread() { stop(); }

void HubThread::stop() {
  if (stopping_.exchange(true)) return;
  const uint64_t one = 1;
  (void)!::write(wake_.raw(), &one, sizeof one);
  if (thread_.joinable()) thread_.join();
  std::vector<Task> dropped;
  std::swap(dropped, *tasks_.lock());
  later_.clear();
}

void HubThread::post(Task task) {
  if (stopping_) return;
  tasks_.lock()->push_back(std::move(task));
  const uint64_t one = 1;
  (void)!::write(wake_.raw(), &one, sizeof one);
}

void HubThread::post_at(Deadline when, Task task) { later_.push_back({when, std::move(task)}); }

int HubThread::timeout_ms() const {
  int soonest = -1;
  for (const Later& entry : later_) {
    const int ms = entry.when.poll_timeout_ms();
    if (soonest < 0 || ms < soonest) soonest = ms;
  }
  return soonest;
}

void HubThread::run_tasks() {
  std::vector<Task> ready;
  std::swap(ready, *tasks_.lock());
  for (size_t i = 0; i < later_.size();) {
    if (!later_[i].when.passed()) {
      ++i;
      continue;
    }
    ready.push_back(std::move(later_[i].task));
    later_.erase(later_.begin() + static_cast<std::ptrdiff_t>(i));
  }
  for (const Task& task : ready) task();
}

void HubThread::run() {
  while (!stopping_) {
    auto waited = epoll_.wait(timeout_ms());
    if (!waited.ok()) {
      logger_.error(waited.error().message());
      return;
    }
    run_tasks();
  }
}

}  // namespace fluyt::monitor
