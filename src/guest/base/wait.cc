#include "guest/base/wait.h"

#include <pthread.h>

#include <memory>

#include "sys/futex.h"

namespace fluyt::guest {

void Wakes::add(const std::atomic<uint32_t>& bed) {
  if (count_ == kMost) make();
  beds_[count_++] = &bed;
}

void Wakes::make() {
  for (size_t i = 0; i < count_; ++i) sys::wake_one(*beds_[i]);
  count_ = 0;
}

void Sleeper::set(uint32_t bit, Wakes& wakes) {
  const uint32_t before = state_.fetch_or(bit);
  if ((before & kAsleep) != 0 && (before & bit) == 0) wakes.add(state_);
}

Sleeper::Outcome Sleeper::sleep_until(const Deadline& deadline, uint32_t heard) {
  for (uint32_t state = state_.load();;) {
    if ((state & heard) != 0) {
      const bool interrupted = (state & heard & kInterrupted) != 0;
      const bool woken = (state & kWoken) != 0 && !(interrupted && has_looked_);
      has_looked_ = woken && interrupted;
      state_.fetch_and(~(kAsleep | (woken ? kWoken : 0)));
      return woken ? Outcome::kWoken : Outcome::kInterrupted;
    }
    if ((state & kAsleep) == 0) {
      if (state_.compare_exchange_weak(state, state | kAsleep)) state |= kAsleep;
      continue;
    }
    const bool in_time = sys::wait_on(state_, state, deadline);
    state = state_.load();
    if (in_time || (state & heard) != 0) continue;
    state_.fetch_and(~kAsleep);
    return Outcome::kTimedOut;
  }
}

Sleeper::Outcome Sleeper::sleep(const Deadline& deadline) {
  return sleep_until(deadline, kWoken | kInterrupted);
}
Sleeper::Outcome Sleeper::sleep_deeply(const Deadline& deadline) {
  return sleep_until(deadline, kWoken);
}

WaitQueue::WaitQueue() : state_(std::make_shared<State>()) {}

WaitQueue::Entry::Entry(WaitQueue& queue, Waiter& waiter, uint32_t events)
    : state_(queue.state_), waiter_(waiter), events_(events) {
  std::lock_guard lock(state_->mutex);
  before_ = state_->last;
  (before_ != nullptr ? before_->behind_ : state_->first) = this;
  state_->last = this;
}

WaitQueue::Entry::~Entry() {
  std::lock_guard lock(state_->mutex);
  (before_ != nullptr ? before_->behind_ : state_->first) = behind_;
  (behind_ != nullptr ? behind_->before_ : state_->last) = before_;
}

void WaitQueue::wake_all(uint32_t events, Wakes& wakes) {
  // Who is woken may be the queue's last user.
  const std::shared_ptr<State> state = state_;
  std::lock_guard lock(state->mutex);
  for (const Entry* entry = state->first; entry != nullptr; entry = entry->behind_)
    if ((entry->events_ & events) != 0) entry->waiter_.wake(events, wakes);
}

bool WaitQueue::empty() {
  std::lock_guard lock(state_->mutex);
  return state_->first == nullptr;
}

struct Workers::Worker {
  Workers* of = nullptr;
  std::condition_variable wanted;
  void (*body)(void*) = nullptr;
  void* argument = nullptr;
};

Workers::~Workers() {
  std::unique_lock lock(mutex_);
  stopping_ = true;
  for (Worker* worker : idle_) worker->wanted.notify_one();
  ended_.wait(lock, [this] { return alive_ == 0; });
}

void* Workers::enter(void* raw) {
  const std::unique_ptr<Worker> self(static_cast<Worker*>(raw));
  self->of->work(*self);
  return nullptr;
}

void Workers::work(Worker& self) {
  constexpr size_t kMostIdle = 64;
  std::unique_lock lock(mutex_);
  for (;;) {
    while (self.body == nullptr && !stopping_) self.wanted.wait(lock);
    if (self.body == nullptr) break;
    lock.unlock();
    self.body(self.argument);
    lock.lock();
    self.body = nullptr;
    if (stopping_ || idle_.size() >= kMostIdle) break;
    idle_.push_back(&self);
  }
  --alive_;
  // With the lock held: behind it this may be no more.
  ended_.notify_all();
}

Errno Workers::start(void (*body)(void*), void* argument) {
  constexpr size_t kStack = size_t{256} << 10;
  {
    std::lock_guard lock(mutex_);
    if (!idle_.empty()) {
      Worker* worker = idle_.back();
      idle_.pop_back();
      worker->body = body;
      worker->argument = argument;
      worker->wanted.notify_one();
      return kOk;
    }
    ++alive_;
  }
  auto worker = std::make_unique<Worker>();
  worker->of = this;
  worker->body = body;
  worker->argument = argument;
  pthread_attr_t attributes;
  pthread_attr_init(&attributes);
  pthread_attr_setstacksize(&attributes, kStack);
  pthread_attr_setdetachstate(&attributes, PTHREAD_CREATE_DETACHED);
  pthread_t thread;
  const int error = pthread_create(&thread, &attributes, enter, worker.get());
  pthread_attr_destroy(&attributes);
  if (error != 0) {
    std::lock_guard lock(mutex_);
    --alive_;
    ended_.notify_all();
    return Errno(EAGAIN);
  }
  [[maybe_unused]] Worker* given = worker.release();  // the thread's now
  return kOk;
}

}  // namespace fluyt::guest
