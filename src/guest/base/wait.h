#pragma once

#include <atomic>
#include <chrono>
#include <condition_variable>
#include <cstdint>
#include <list>
#include <memory>
#include <mutex>
#include <optional>
#include <vector>

#include "guest/abi/errno.h"

/// How sentry threads sleep on behalf of guest threads, and are woken.
namespace fluyt::guest {

using Clock = std::chrono::steady_clock;
using Deadline = std::optional<Clock::time_point>;  // none: for ever

/// Who can be in a queue: a sleeping thread, or an epoll that listens on a file.
class Waiter {
 public:
  virtual ~Waiter() = default;
  /// POLL* bits that may hold now; all of them when the waker cannot tell. Called with the queue
  /// locked, and perhaps the file's own lock: it must not look at the file.
  virtual void wake(uint32_t events) = 0;
};

/// One thread's bed. `interrupt` marks that something concerns the thread itself (a signal, its
/// end): sleeps end with kInterrupted until the mark is taken off.
class Sleeper final : public Waiter {
 public:
  enum class Outcome : uint8_t { kWoken, kInterrupted, kTimedOut };

  /// Until wake, interrupt or the deadline. A wake that came before is not lost.
  Outcome sleep(const Deadline& deadline);
  /// The same, deaf to interrupts (vfork's parent, the last of a group).
  Outcome sleep_deeply(const Deadline& deadline);
  void wake();
  void wake(uint32_t /*events*/) override { wake(); }
  void interrupt();
  bool interrupted() const { return interrupted_.load(); }
  void clear_interrupt() { interrupted_.store(false); }

 private:
  Outcome sleep_until(const Deadline& deadline, bool deep);
  std::mutex mutex_;
  std::condition_variable changed_;
  bool woken_ = false;
  std::atomic<bool> interrupted_{false};
};

/// Those who wait for one thing. Who is in it when it ends is in nothing from then on.
class WaitQueue {
  struct State {
    std::mutex mutex;
    std::list<Waiter*> waiters;
  };

 public:
  static constexpr uint32_t kAnything = ~uint32_t{0};

  WaitQueue() = default;
  WaitQueue(const WaitQueue&) = delete;
  WaitQueue& operator=(const WaitQueue&) = delete;

  /// Being in the queue, as long as it lives. To be entered before the condition is looked at. When
  /// it has ended, the waiter is woken no more.
  class Entry {
   public:
    Entry(WaitQueue& queue, Waiter& waiter);
    Entry(const Entry&) = delete;
    Entry& operator=(const Entry&) = delete;
    ~Entry();

   private:
    std::shared_ptr<State> state_;
    std::list<Waiter*>::iterator at_;
  };
  void wake_all(uint32_t events = kAnything);
  bool empty();

 private:
  std::shared_ptr<State> state_ = std::make_shared<State>();
};

/// Sleeps until `ready()` holds: kOk, kRestartSys when interrupted, ETIMEDOUT.
template <class Ready>
Errno wait_until(WaitQueue& queue, Sleeper& sleeper, const Deadline& deadline, Ready ready) {
  WaitQueue::Entry entry(queue, sleeper);
  for (;;) {
    if (ready()) return kOk;
    switch (sleeper.sleep(deadline)) {
      case Sleeper::Outcome::kWoken:
        break;
      case Sleeper::Outcome::kInterrupted:
        return Errno(kRestartSys);
      case Sleeper::Outcome::kTimedOut:
        return Errno(ETIMEDOUT);
    }
  }
}

/// Threads with small stacks, kept for the next when their work is done: one that sleeps is there
/// sooner than a new one, by far when processors are busy.
class Workers {
 public:
  Workers() = default;
  Workers(const Workers&) = delete;
  Workers& operator=(const Workers&) = delete;
  /// Waits until all work is done.
  ~Workers();
  /// Runs `body` in one of them; EAGAIN: there is none, and none to be had.
  Errno start(void (*body)(void*), void* argument);

 private:
  struct Worker;
  static void* enter(void* raw);
  void work(Worker& self);
  std::mutex mutex_;
  std::condition_variable ended_;
  std::vector<Worker*> idle_;
  size_t alive_ = 0;
  bool stopping_ = false;
};

}  // namespace fluyt::guest
