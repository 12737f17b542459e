#pragma once

#include <array>
#include <atomic>
#include <condition_variable>
#include <cstdint>
#include <functional>
#include <initializer_list>
#include <list>
#include <map>
#include <mutex>
#include <span>
#include <utility>

#include "guest/base/wait.h"
#include "guest/mm/mm.h"

namespace fluyt::guest {

/// Who waits on which word of guest memory (futex(2)).
///
/// The word of a lock with priority inheritance holds its owner's thread number. Once its waiters'
/// bit is set, no program of good will changes it without a call; that bit lies in a byte of its
/// own, no number being so large, so that setting it takes nothing from a program's atomic
/// instruction. Waiters are served in order: the host schedules threads as it likes, and there is
/// no priority to be lent.
///
/// To read or write a word may take the host any time: its page may have to come from a file. So
/// the lock of all is not held over that, but the word alone is: see Hold.
class Futexes {
 public:
  static constexpr uint32_t kTidMask = 0x3fffffff;
  static constexpr uint32_t kOwnerDied = 0x40000000;
  static constexpr uint32_t kHasWaiters = 0x80000000;

  static Mm::SharedPlace private_place(Mm& mm, uint64_t address) { return {&mm, address}; }

  Errno wait(Mm& mm, const Mm::SharedPlace& place, uint64_t address, uint32_t expected,
             uint32_t bits, Sleeper& sleeper, const Deadline& deadline);
  struct Wanted {
    Mm::SharedPlace place;
    uint64_t address = 0;
    uint32_t expected = 0;
  };
  /// futex_waitv(2): which of them was woken.
  ErrnoOr<int> wait_for_any(Mm& mm, std::span<const Wanted> wanted, Sleeper& sleeper,
                            const Deadline& deadline);
  /// EINVAL: who waits there waits for a lock.
  ErrnoOr<int> wake(const Mm::SharedPlace& place, int count, uint32_t bits);
  /// Wakes `count`, moves up to `move` of the rest to `to`. With `expected`, only while the word at
  /// `address` is that (EAGAIN). Gives the number woken, and moved as well when it was compared.
  ErrnoOr<int> requeue(Mm& mm, const Mm::SharedPlace& from, uint64_t address,
                       const uint32_t* expected, int count, const Mm::SharedPlace& to, int move);
  ErrnoOr<int> wake_op(Mm& mm, const Mm::SharedPlace& first, int count,
                       const Mm::SharedPlace& second, uint64_t address, int second_count,
                       uint32_t op);

  /// A lock's word, as one thread sees it.
  struct Lock {
    Mm& mm;
    Mm::SharedPlace place;
    uint64_t address = 0;
    int32_t tid = 0;     // of the thread, in the whole kernel
    int32_t number = 0;  // as the word has it
  };
  /// The thread that the caller knows by the number, when it has not begun to end; 0: there is
  /// none. Called without locks.
  using Lives = std::function<int32_t(int32_t number)>;
  enum class Way : uint8_t { kWait, kTry };
  /// EDEADLK, ESRCH (its owner is gone), EAGAIN (kTry), EINVAL (the word is not what is known of
  /// it).
  Errno lock(const Lock& lock, Way way, const Lives& lives, Sleeper& sleeper,
             const Deadline& deadline);
  Errno unlock(const Lock& lock);
  /// Waits at `place` to be moved on to the lock, and for the lock then.
  Errno wait_for_lock(const Mm::SharedPlace& place, uint64_t address, uint32_t expected,
                      const Lock& lock, Sleeper& sleeper, const Deadline& deadline);
  /// Gives the lock at `to` to the first of those, or has it wait there with up to `move` more; how
  /// many that were. Who `to` says that the thread is counts for nothing.
  ErrnoOr<int> requeue_to_lock(const Mm::SharedPlace& from, uint64_t address, uint32_t expected,
                               const Lock& to, int move, const Lives& lives);
  /// The thread ends, or its memory is another from here on: its locks go to who waits for them,
  /// with kOwnerDied. Whoever asks whether it lives hears no from now on.
  void leave_locks(int32_t tid);

 private:
  using Key = std::pair<const void*, uint64_t>;
  /// Who waits for a lock, or to be moved on to one.
  struct Locker {
    Mm* mm = nullptr;
    uint64_t address = 0;
    int32_t tid = 0;
    int32_t number = 0;
    Sleeper* sleeper = nullptr;
    Key key;  // of the lock
    bool waits_there = false;
    bool served = false;
    Errno result;
  };
  struct Waiter {
    Sleeper* sleeper = nullptr;
    uint32_t bits = 0;
    std::atomic<bool> woken{false};  // the waker is done with it
    Locker* locker = nullptr;
    Key key;
    std::list<Waiter*>::iterator at;
  };
  struct LockQueue {
    int32_t owner = 0;           // its tid
    int32_t number = 0;          // as the word has it
    std::list<Locker*> lockers;  // never empty
  };
  /// What was found of an owner without the lock.
  struct Looked {
    int32_t number = 0;
    uint64_t endings = 0;
    int32_t tid = 0;  // 0: it is no more
  };
  enum class Taken : uint8_t { kMine, kAnothers, kLookAgain };

  using Guard = std::unique_lock<std::mutex>;  // of mutex_
  struct Claim {
    Key key;
    Claim* next = nullptr;  // in the same row of claims_
    bool made = false;
  };
  /// As long as it lives, what is waited for by some keys and the words there are its maker's:
  /// whoever wants one of them waits, though mutex_ be free. Made and ended with the lock held;
  /// between the two it is let go over memory (load, store). Nothing that can fail is in it.
  class Hold {
   public:
    Hold(Futexes& of, Guard& guard, const Key& key) : Hold(of, guard, key, key) {}
    Hold(Futexes& of, Guard& guard, const Key& first, const Key& second);
    Hold(Futexes& of, Guard& guard, std::span<Claim> claims);
    Hold(const Hold&) = delete;
    Hold& operator=(const Hold&) = delete;
    ~Hold();

   private:
    void claim();
    Futexes& of_;
    Guard& guard_;
    std::array<Claim, 2> own_;
    std::span<Claim> claims_;
  };
  Claim*& row_of(const Key& key);
  bool is_held(const Key& key);
  /// Until nobody holds any of them.
  void await(Guard& guard, std::initializer_list<Key> keys);

  // With the lock held, and let go on the way by who has a hold.
  static Errno load(Guard& guard, Mm& mm, uint64_t address, uint32_t& value);
  static Errno store(Guard& guard, Mm& mm, uint64_t address, uint32_t value);
  static Errno mark_waited_for(Guard& guard, Mm& mm, uint64_t address, uint32_t& value);
  ErrnoOr<Taken> take(Guard& guard, const Lock& lock, uint32_t flags, const Looked& looked);
  ErrnoOr<Taken> take_free(Guard& guard, const Lock& lock, uint32_t flags);
  void hand_over(Guard& guard, std::map<Key, LockQueue>::iterator queue, uint32_t flags);

  ErrnoOr<int> wake_locked(const Key& key, int count, uint32_t bits, Wakes& wakes);
  void leave(Waiter& waiter);
  ErrnoOr<Looked> look(const Lock& lock, const Lives& lives);
  static Locker locker_for(const Lock& lock, Sleeper& sleeper);
  Errno queue_up(Locker& locker, const Looked& owner);
  void stop_waiting(Locker& locker);

  std::mutex mutex_;
  std::condition_variable let_go_;  // of a hold
  int awaiting_ = 0;
  std::array<Claim*, 256> claims_{};
  std::map<Key, std::list<Waiter*>> queues_;
  std::map<Key, LockQueue> locks_;
  std::map<int32_t, Locker*> lockers_;  // who waits for a lock, by thread
  uint64_t endings_ = 0;                // leave_locks so far
};

}  // namespace fluyt::guest
