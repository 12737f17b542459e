#include "guest/base/wait.h"

#include <pthread.h>

#include <memory>

namespace fluyt::guest {

Sleeper::Outcome Sleeper::sleep_until(const Deadline& deadline, bool deep) {
  std::unique_lock lock(mutex_);
  const auto ready = [&] { return woken_ || (!deep && interrupted_.load()); };
  if (deadline) {
    if (!changed_.wait_until(lock, *deadline, ready)) return Outcome::kTimedOut;
  } else {
    changed_.wait(lock, ready);
  }
  if (woken_) {
    woken_ = false;
    return Outcome::kWoken;
  }
  return Outcome::kInterrupted;
}

Sleeper::Outcome Sleeper::sleep(const Deadline& deadline) { return sleep_until(deadline, false); }
Sleeper::Outcome Sleeper::sleep_deeply(const Deadline& deadline) {
  return sleep_until(deadline, true);
}

void Sleeper::wake() {
  {
    std::lock_guard lock(mutex_);
    woken_ = true;
  }
  changed_.notify_one();
}

void Sleeper::interrupt() {
  {
    std::lock_guard lock(mutex_);
    interrupted_.store(true);
  }
  changed_.notify_one();
}

WaitQueue::Entry::Entry(WaitQueue& queue, Waiter& waiter) : state_(queue.state_) {
  std::lock_guard lock(state_->mutex);
  at_ = state_->waiters.insert(state_->waiters.end(), &waiter);
}

WaitQueue::Entry::~Entry() {
  std::lock_guard lock(state_->mutex);
  state_->waiters.erase(at_);
}

void WaitQueue::wake_all(uint32_t events) {
  // Who is woken may be the queue's last user.
  const std::shared_ptr<State> state = state_;
  std::lock_guard lock(state->mutex);
  for (Waiter* waiter : state->waiters) waiter->wake(events);
}

bool WaitQueue::empty() {
  std::lock_guard lock(state_->mutex);
  return state_->waiters.empty();
}

namespace {
struct Start {
  void (*body)(void*);
  void* argument;
};
void* enter(void* raw) {
  std::unique_ptr<Start> start(static_cast<Start*>(raw));
  start->body(start->argument);
  return nullptr;
}
}  // namespace

Errno start_thread(void (*body)(void*), void* argument) {
  constexpr size_t kStack = size_t{256} << 10;
  pthread_attr_t attributes;
  pthread_attr_init(&attributes);
  pthread_attr_setstacksize(&attributes, kStack);
  pthread_attr_setdetachstate(&attributes, PTHREAD_CREATE_DETACHED);
  auto start = std::make_unique<Start>(Start{body, argument});
  pthread_t thread;
  const int error = pthread_create(&thread, &attributes, enter, start.get());
  pthread_attr_destroy(&attributes);
  if (error != 0) return Errno(EAGAIN);
  [[maybe_unused]] Start* given = start.release();  // the thread's now
  return kOk;
}

}  // namespace fluyt::guest
