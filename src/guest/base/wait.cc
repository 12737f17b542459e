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
