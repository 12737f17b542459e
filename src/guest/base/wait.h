#pragma once

#include <atomic>
#include <chrono>
#include <condition_variable>
#include <cstdint>
#include <memory>
#include <mutex>
#include <optional>
#include <vector>

#include "guest/abi/errno.h"

/// How sentry threads sleep on behalf of guest threads, and are woken.
namespace fluyt::guest {

using Clock = std::chrono::steady_clock;
using Deadline = std::optional<Clock::time_point>;  // none: for ever

class Sleeper;

/// Beds whose sleepers are awake but for the host's call that tells them. It is made when this
/// ends: behind the locks that the waker holds, for who is woken wants them too. A sleeper that is
/// no more by then does no harm, since the call only names an address.
class Wakes {
 public:
  Wakes() = default;
  Wakes(const Wakes&) = delete;
  Wakes& operator=(const Wakes&) = delete;
  ~Wakes() { make(); }

 private:
  friend class Sleeper;
  void add(const std::atomic<uint32_t>& bed);
  void make();
  static constexpr size_t kMost = 8;
  const std::atomic<uint32_t>* beds_[kMost];
  size_t count_ = 0;
};

/// Who can be in a queue: a sleeping thread, or an epoll that listens on a file.
class Waiter {
 public:
  virtual ~Waiter() = default;
  /// POLL* bits that may hold now; all of them when the waker cannot tell. Called with the queue
  /// locked, and perhaps the file's own lock: it must not look at the file.
  virtual void wake(uint32_t events, Wakes& wakes) = 0;
};

/// One thread's bed, a futex. `interrupt` marks that something concerns the thread itself (a
/// signal, its end): sleeps end with kInterrupted until the mark is taken off.
class Sleeper final : public Waiter {
 public:
  enum class Outcome : uint8_t { kWoken, kInterrupted, kTimedOut };

  /// Until wake, interrupt or the deadline. A wake that came before is not lost. Who is interrupted
  /// and woken is to look once more, but not twice: wakes may come without end.
  Outcome sleep(const Deadline& deadline);
  /// The same, deaf to interrupts (vfork's parent, the last of a group).
  Outcome sleep_deeply(const Deadline& deadline);
  void wake() {
    Wakes wakes;
    wake(wakes);
  }
  void wake(Wakes& wakes) { set(kWoken, wakes); }
  void wake(uint32_t /*events*/, Wakes& wakes) override { wake(wakes); }
  void interrupt() {
    Wakes wakes;
    set(kInterrupted, wakes);
  }
  bool interrupted() const { return (state_.load() & kInterrupted) != 0; }
  void clear_interrupt() { state_.fetch_and(~kInterrupted); }

 private:
  static constexpr uint32_t kWoken = 1;
  static constexpr uint32_t kInterrupted = 2;
  static constexpr uint32_t kAsleep = 4;  // the host has to be told
  Outcome sleep_until(const Deadline& deadline, uint32_t heard);
  void set(uint32_t bit, Wakes& wakes);
  std::atomic<uint32_t> state_{0};
  bool has_looked_ = false;  // since it was interrupted; the sleeper's own
};

/// Those who wait for one thing. Who is in it when it ends is in nothing from then on.
class WaitQueue {
  struct State;

 public:
  static constexpr uint32_t kAnything = ~uint32_t{0};

  WaitQueue();
  WaitQueue(const WaitQueue&) = delete;
  WaitQueue& operator=(const WaitQueue&) = delete;

  /// Being in the queue, as long as it lives. To be entered before the condition is looked at. When
  /// it has ended, the waiter is woken no more.
  class Entry {
   public:
    /// Woken when some of `events` (POLL* bits) may hold.
    Entry(WaitQueue& queue, Waiter& waiter, uint32_t events = kAnything);
    Entry(const Entry&) = delete;
    Entry& operator=(const Entry&) = delete;
    ~Entry();

   private:
    friend class WaitQueue;
    std::shared_ptr<State> state_;
    Waiter& waiter_;
    const uint32_t events_;
    Entry* before_;
    Entry* behind_ = nullptr;
  };
  void wake_all(uint32_t events = kAnything) {
    Wakes wakes;
    wake_all(events, wakes);
  }
  void wake_all(uint32_t events, Wakes& wakes);
  bool empty();

 private:
  struct State {
    std::mutex mutex;
    Entry* first = nullptr;
    Entry* last = nullptr;
  };
  std::shared_ptr<State> state_;
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
