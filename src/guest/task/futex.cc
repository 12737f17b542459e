#include "guest/task/futex.h"

#include <algorithm>
#include <climits>
#include <functional>
#include <span>
#include <utility>
#include <vector>

namespace fluyt::guest {
namespace {

Errno read_word(Mm& mm, uint64_t address, uint32_t& value) {
  if (address % 4 != 0) return Errno(EINVAL);
  return mm.space().read(address, std::as_writable_bytes(std::span(&value, 1))) == sizeof value
             ? kOk
             : Errno(EFAULT);
}

Errno write_bytes(Mm& mm, uint64_t address, std::span<const std::byte> from) {
  return mm.space().write(address, from) == from.size() ? kOk : Errno(EFAULT);
}

int32_t owner_in(uint32_t word) { return static_cast<int32_t>(word & Futexes::kTidMask); }

}  // namespace

Futexes::Hold::Hold(Futexes& of, Guard& guard, const Key& first, const Key& second)
    : of_(of),
      guard_(guard),
      own_{Claim{std::min(first, second)}, Claim{std::max(first, second)}},
      claims_(own_) {
  claim();
}

Futexes::Hold::Hold(Futexes& of, Guard& guard, std::span<Claim> claims)
    : of_(of), guard_(guard), claims_(claims) {
  std::sort(claims.begin(), claims.end(),
            [](const Claim& a, const Claim& b) { return a.key < b.key; });
  claim();
}

/// In the order of the keys: so nobody waits for who waits for it.
void Futexes::Hold::claim() {
  const Claim* before = nullptr;
  for (Claim& one : claims_) {
    const bool again = before != nullptr && before->key == one.key;
    before = &one;
    if (again) continue;
    of_.await(guard_, {one.key});
    one.next = std::exchange(of_.row_of(one.key), &one);
    one.made = true;
  }
}

Futexes::Hold::~Hold() {
  if (!guard_.owns_lock()) guard_.lock();
  for (const Claim& one : claims_) {
    if (!one.made) continue;
    Claim** at = &of_.row_of(one.key);
    while (*at != &one) at = &(*at)->next;
    *at = one.next;
  }
  if (of_.awaiting_ != 0) of_.let_go_.notify_all();
}

Futexes::Claim*& Futexes::row_of(const Key& key) {
  const size_t hash = std::hash<const void*>()(key.first) ^ std::hash<uint64_t>()(key.second >> 2);
  return claims_[(hash ^ hash >> 8 ^ hash >> 16) % claims_.size()];
}

bool Futexes::is_held(const Key& key) {
  for (const Claim* at = row_of(key); at != nullptr; at = at->next)
    if (at->key == key) return true;
  return false;
}

void Futexes::await(Guard& guard, std::initializer_list<Key> keys) {
  const auto free = [&] {
    return std::none_of(keys.begin(), keys.end(), [&](const Key& key) { return is_held(key); });
  };
  if (free()) return;
  ++awaiting_;
  let_go_.wait(guard, free);
  --awaiting_;
}

Errno Futexes::load(Guard& guard, Mm& mm, uint64_t address, uint32_t& value) {
  guard.unlock();
  const Errno done = read_word(mm, address, value);
  guard.lock();
  return done;
}

Errno Futexes::store(Guard& guard, Mm& mm, uint64_t address, uint32_t value) {
  guard.unlock();
  const Errno done = write_bytes(mm, address, std::as_bytes(std::span(&value, 1)));
  guard.lock();
  return done;
}

/// Sets the waiters' bit of what was `value` just now, by a store to its own byte alone, and looks
/// again.
Errno Futexes::mark_waited_for(Guard& guard, Mm& mm, uint64_t address, uint32_t& value) {
  if ((value & kHasWaiters) == 0) {
    const auto byte = static_cast<std::byte>((value | kHasWaiters) >> 24);
    guard.unlock();
    const Errno done = write_bytes(mm, address + 3, std::span(&byte, 1));
    guard.lock();
    GUEST_TRY(done);
  }
  return load(guard, mm, address, value);
}

void Futexes::leave(Waiter& waiter) {
  const auto queue = queues_.find(waiter.key);
  queue->second.erase(waiter.at);
  if (queue->second.empty()) queues_.erase(queue);
}

Errno Futexes::wait(Mm& mm, const Mm::SharedPlace& place, uint64_t address, uint32_t expected,
                    uint32_t bits, Sleeper& sleeper, const Deadline& deadline) {
  if (bits == 0) return Errno(EINVAL);
  Waiter waiter;
  waiter.sleeper = &sleeper;
  waiter.bits = bits;
  waiter.key = {place.object, place.offset};
  Guard lock(mutex_);
  {
    const Hold hold(*this, lock, waiter.key);
    uint32_t value = 0;
    GUEST_TRY(load(lock, mm, address, value));
    if (value != expected) return Errno(EAGAIN);
    std::list<Waiter*>& queue = queues_[waiter.key];
    waiter.at = queue.insert(queue.end(), &waiter);
  }
  for (;;) {
    lock.unlock();
    const Sleeper::Outcome outcome = sleeper.sleep(deadline);
    if (waiter.woken.load(std::memory_order_acquire)) return kOk;
    lock.lock();
    if (waiter.woken.load(std::memory_order_relaxed)) return kOk;
    if (outcome == Sleeper::Outcome::kWoken) continue;
    leave(waiter);
    return Errno(outcome == Sleeper::Outcome::kTimedOut ? ETIMEDOUT : kRestartSys);
  }
}

ErrnoOr<int> Futexes::wait_for_any(Mm& mm, std::span<const Wanted> wanted, Sleeper& sleeper,
                                   const Deadline& deadline) {
  std::vector<Waiter> waiters(wanted.size());
  std::vector<Claim> claims(wanted.size());
  for (size_t i = 0; i < wanted.size(); ++i)
    claims[i].key = waiters[i].key = {wanted[i].place.object, wanted[i].place.offset};
  Guard lock(mutex_);
  // Under the lock; also where there is no memory for one more.
  struct Leaving {
    Futexes& of;
    std::vector<Waiter>& waiters;
    size_t queued = 0;
    ~Leaving() {
      for (size_t i = 0; i < queued; ++i)
        if (!waiters[i].woken) of.leave(waiters[i]);
    }
  } leaving{*this, waiters};
  {
    const Hold hold(*this, lock, claims);
    for (const Wanted& one : wanted) {
      uint32_t value = 0;
      GUEST_TRY(load(lock, mm, one.address, value));
      if (value != one.expected) return Errno(EAGAIN);
    }
    for (Waiter& waiter : waiters) {
      waiter.sleeper = &sleeper;
      waiter.bits = ~0U;
      std::list<Waiter*>& queue = queues_[waiter.key];
      waiter.at = queue.insert(queue.end(), &waiter);
      ++leaving.queued;
    }
  }
  Sleeper::Outcome outcome = Sleeper::Outcome::kWoken;
  int woken = -1;
  while (woken < 0 && outcome == Sleeper::Outcome::kWoken) {
    lock.unlock();
    outcome = sleeper.sleep(deadline);
    lock.lock();
    for (size_t i = 0; i < waiters.size(); ++i)
      if (waiters[i].woken) woken = static_cast<int>(i);
  }
  if (woken >= 0) return woken;
  return Errno(outcome == Sleeper::Outcome::kTimedOut ? ETIMEDOUT : kRestartSys);
}

ErrnoOr<int> Futexes::wake_locked(const Key& key, int count, uint32_t bits, Wakes& wakes) {
  if (locks_.contains(key)) return Errno(EINVAL);
  const auto queue = queues_.find(key);
  if (queue == queues_.end()) return 0;
  int woken = 0;
  for (auto at = queue->second.begin(); at != queue->second.end() && woken < count;) {
    Waiter* waiter = *at;
    if (waiter->locker != nullptr) return Errno(EINVAL);
    if ((waiter->bits & bits) == 0) {
      ++at;
      continue;
    }
    at = queue->second.erase(at);
    waiter->sleeper->wake(wakes);
    // From here on it may be gone: who is woken need not wait for the lock.
    waiter->woken.store(true, std::memory_order_release);
    ++woken;
  }
  if (queue->second.empty()) queues_.erase(queue);
  return woken;
}

ErrnoOr<int> Futexes::wake(const Mm::SharedPlace& place, int count, uint32_t bits) {
  const Key key{place.object, place.offset};
  Wakes wakes;
  Guard lock(mutex_);
  // Who is looking at the word is in the queue by then, or has seen what it is now.
  await(lock, {key});
  return wake_locked(key, count, bits, wakes);
}

ErrnoOr<int> Futexes::requeue(Mm& mm, const Mm::SharedPlace& from, uint64_t address,
                              const uint32_t* expected, int count, const Mm::SharedPlace& to,
                              int move) {
  if (count < 0 || move < 0) return Errno(EINVAL);
  const Key source{from.object, from.offset};
  const Key target{to.object, to.offset};
  Wakes wakes;
  Guard lock(mutex_);
  const Hold hold(*this, lock, source, target);
  if (expected != nullptr) {
    uint32_t value = 0;
    GUEST_TRY(load(lock, mm, address, value));
    if (value != *expected) return Errno(EAGAIN);
  }
  int done = GUEST_TRY(wake_locked(source, count, ~0U, wakes));
  const auto queue = queues_.find(source);
  if (queue == queues_.end() || source == target) return done;
  int moved = 0;
  std::list<Waiter*>& destination = queues_[target];
  while (!queue->second.empty() && moved < move) {
    Waiter* waiter = queue->second.front();
    if (waiter->locker != nullptr) break;
    destination.splice(destination.end(), queue->second, queue->second.begin());
    waiter->key = target;
    waiter->at = std::prev(destination.end());
    ++moved;
  }
  if (queue->second.empty()) queues_.erase(queue);
  if (destination.empty()) queues_.erase(target);
  return expected != nullptr ? done + moved : done;
}

ErrnoOr<int> Futexes::wake_op(Mm& mm, const Mm::SharedPlace& first, int count,
                              const Mm::SharedPlace& second, uint64_t address, int second_count,
                              uint32_t op) {
  const uint32_t what = op >> 28 & 7;
  const uint32_t compare = op >> 24 & 15;
  int32_t operand = static_cast<int32_t>(op << 8) >> 20;
  const int32_t against = static_cast<int32_t>(op << 20) >> 20;
  if ((op >> 28 & 8) != 0) operand = 1 << (operand & 31);
  const Key first_key{first.object, first.offset};
  const Key second_key{second.object, second.offset};
  Wakes wakes;
  Guard lock(mutex_);
  const Hold hold(*this, lock, first_key, second_key);
  uint32_t old = 0;
  GUEST_TRY(load(lock, mm, address, old));
  uint32_t value = old;
  const auto with = static_cast<uint32_t>(operand);
  switch (what) {
    case 0:
      value = with;
      break;
    case 1:
      value += with;
      break;
    case 2:
      value |= with;
      break;
    case 3:
      value &= ~with;
      break;
    case 4:
      value ^= with;
      break;
    default:
      return Errno(ENOSYS);
  }
  // Not atomic against the guest's own instructions: docs/guest-syscalls.md says so.
  GUEST_TRY(store(lock, mm, address, value));
  const auto before = static_cast<int32_t>(old);
  bool holds = false;
  switch (compare) {
    case 0:
      holds = before == against;
      break;
    case 1:
      holds = before != against;
      break;
    case 2:
      holds = before < against;
      break;
    case 3:
      holds = before <= against;
      break;
    case 4:
      holds = before > against;
      break;
    case 5:
      holds = before >= against;
      break;
    default:
      return Errno(ENOSYS);
  }
  int woken = GUEST_TRY(wake_locked(first_key, count, ~0U, wakes));
  if (holds) woken += GUEST_TRY(wake_locked(second_key, second_count, ~0U, wakes));
  return woken;
}

ErrnoOr<Futexes::Looked> Futexes::look(const Lock& lock, const Lives& lives) {
  Looked looked;
  uint32_t word = 0;
  {
    std::lock_guard guard(mutex_);
    looked.endings = endings_;
  }
  GUEST_TRY(read_word(lock.mm, lock.address, word));
  looked.number = owner_in(word);
  if (looked.number != 0) looked.tid = lives(looked.number);
  return looked;
}

/// Of a lock that nobody waits for.
ErrnoOr<Futexes::Taken> Futexes::take_free(Guard& guard, const Lock& lock, uint32_t flags) {
  uint32_t word = 0;
  GUEST_TRY(load(guard, lock.mm, lock.address, word));
  // From here on only calls change it.
  GUEST_TRY(mark_waited_for(guard, lock.mm, lock.address, word));
  if (owner_in(word) != 0) return Taken::kAnothers;
  GUEST_TRY(store(guard, lock.mm, lock.address,
                  (word & kOwnerDied) | static_cast<uint32_t>(lock.number) | flags));
  return Taken::kMine;
}

ErrnoOr<Futexes::Taken> Futexes::take(Guard& guard, const Lock& lock, uint32_t flags,
                                      const Looked& looked) {
  const Key key{lock.place.object, lock.place.offset};
  uint32_t word = 0;
  GUEST_TRY(load(guard, lock.mm, lock.address, word));
  if (owner_in(word) == lock.number) return Errno(EDEADLK);
  if (queues_.contains(key)) return Errno(EINVAL);
  if (const auto known = locks_.find(key); known != locks_.end()) {
    // Its owner may be between the end of its list of robust locks and leave_locks.
    const bool is_ending = (word & kOwnerDied) != 0 && owner_in(word) == 0;
    if (!is_ending && owner_in(word) != known->second.number) return Errno(EINVAL);
    return Taken::kAnothers;
  }
  const Taken taken = GUEST_TRY(take_free(guard, lock, flags));
  if (taken == Taken::kMine) return taken;
  GUEST_TRY(load(guard, lock.mm, lock.address, word));
  if (owner_in(word) != looked.number || endings_ != looked.endings) return Taken::kLookAgain;
  if (looked.tid == 0) return Errno(ESRCH);
  return Taken::kAnothers;
}

/// `owner` is what was found of a lock that nobody waits for yet.
Errno Futexes::queue_up(Locker& locker, const Looked& owner) {
  const auto known = locks_.find(locker.key);
  const int32_t tid = known != locks_.end() ? known->second.owner : owner.tid;
  // Nobody waits for itself, however long the chain: each thread is in it once.
  size_t steps = 0;
  for (int32_t at = tid; steps <= lockers_.size(); ++steps) {
    if (at == locker.tid) return Errno(EDEADLK);
    const auto waits = lockers_.find(at);
    if (waits == lockers_.end()) break;
    at = locks_.at(waits->second->key).owner;
  }
  // All that may lack memory comes before anything points to the locker.
  std::list<Locker*> own{&locker};
  struct Undo {
    std::map<Key, LockQueue>& locks;
    const Key& key;
    bool armed;
    ~Undo() {
      if (armed) locks.erase(key);
    }
  } undo{locks_, locker.key, known == locks_.end()};
  LockQueue& queue =
      locks_.try_emplace(locker.key, LockQueue{owner.tid, owner.number, {}}).first->second;
  lockers_[locker.tid] = &locker;
  undo.armed = false;
  queue.lockers.splice(queue.lockers.end(), own);
  locker.waits_there = true;
  return kOk;
}

void Futexes::stop_waiting(Locker& locker) {
  const auto queue = locks_.find(locker.key);
  std::erase(queue->second.lockers, &locker);
  if (queue->second.lockers.empty()) locks_.erase(queue);
  lockers_.erase(locker.tid);
  locker.waits_there = false;
}

/// Who is next stays until it is told: it holds back behind who has the hold.
void Futexes::hand_over(Guard& guard, std::map<Key, LockQueue>::iterator queue, uint32_t flags) {
  Locker& next = *queue->second.lockers.front();
  queue->second.lockers.pop_front();
  queue->second.owner = next.tid;
  queue->second.number = next.number;
  if (queue->second.lockers.empty()) locks_.erase(queue);
  lockers_.erase(next.tid);
  next.waits_there = false;
  next.result = store(guard, *next.mm, next.address,
                      static_cast<uint32_t>(next.number) | kHasWaiters | flags);
  next.served = true;
  next.sleeper->wake();
}

Futexes::Locker Futexes::locker_for(const Lock& lock, Sleeper& sleeper) {
  Locker out;
  out.mm = &lock.mm;
  out.address = lock.address;
  out.tid = lock.tid;
  out.number = lock.number;
  out.sleeper = &sleeper;
  out.key = {lock.place.object, lock.place.offset};
  return out;
}

Errno Futexes::lock(const Lock& lock, Way way, const Lives& lives, Sleeper& sleeper,
                    const Deadline& deadline) {
  Locker locker = locker_for(lock, sleeper);
  Guard guard(mutex_, std::defer_lock);
  for (;;) {
    const Looked looked = GUEST_TRY(look(lock, lives));
    guard.lock();
    {
      const Hold hold(*this, guard, locker.key);
      const Taken taken = GUEST_TRY(take(guard, lock, 0, looked));
      if (taken == Taken::kMine) return kOk;
      if (taken == Taken::kAnothers) {
        if (way == Way::kTry) return Errno(EAGAIN);
        GUEST_TRY(queue_up(locker, looked));
        break;
      }
    }
    guard.unlock();
    // A program may change the word for ever.
    if (sleeper.interrupted()) return Errno(kRestartNoIntr);
  }
  for (;;) {
    guard.unlock();
    const Sleeper::Outcome outcome = sleeper.sleep(deadline);
    guard.lock();
    if (!locker.served && outcome == Sleeper::Outcome::kWoken) continue;
    // It may be about to be ours.
    await(guard, {locker.key});
    if (locker.served) return locker.result;
    stop_waiting(locker);
    return Errno(outcome == Sleeper::Outcome::kTimedOut ? ETIMEDOUT : kRestartNoIntr);
  }
}

Errno Futexes::unlock(const Lock& lock) {
  const Key key{lock.place.object, lock.place.offset};
  Guard guard(mutex_);
  const Hold hold(*this, guard, key);
  uint32_t word = 0;
  GUEST_TRY(load(guard, lock.mm, lock.address, word));
  if (owner_in(word) != lock.number) return Errno(EPERM);
  if (queues_.contains(key)) return Errno(EINVAL);
  const auto queue = locks_.find(key);
  if (queue == locks_.end()) return store(guard, lock.mm, lock.address, 0);
  if (queue->second.owner != lock.tid) return Errno(EINVAL);
  hand_over(guard, queue, 0);
  return kOk;
}

Errno Futexes::wait_for_lock(const Mm::SharedPlace& place, uint64_t address, uint32_t expected,
                             const Lock& lock, Sleeper& sleeper, const Deadline& deadline) {
  Locker locker = locker_for(lock, sleeper);
  Waiter waiter;
  waiter.sleeper = &sleeper;
  waiter.locker = &locker;
  waiter.key = {place.object, place.offset};
  if (waiter.key == locker.key) return Errno(EINVAL);
  Guard guard(mutex_);
  {
    const Hold hold(*this, guard, waiter.key);
    uint32_t value = 0;
    GUEST_TRY(load(guard, lock.mm, address, value));
    if (value != expected) return Errno(EAGAIN);
    std::list<Waiter*>& queue = queues_[waiter.key];
    waiter.at = queue.insert(queue.end(), &waiter);
  }
  for (;;) {
    guard.unlock();
    const Sleeper::Outcome outcome = sleeper.sleep(deadline);
    guard.lock();
    if (!locker.served && outcome == Sleeper::Outcome::kWoken) continue;
    // It may be about to be moved on, or the lock to be ours.
    await(guard, {waiter.key, locker.key});
    if (locker.served) return locker.result;
    const bool moved = locker.waits_there;
    if (moved)
      stop_waiting(locker);
    else
      leave(waiter);
    if (outcome == Sleeper::Outcome::kTimedOut) return Errno(ETIMEDOUT);
    // Who was moved on cannot wait at the first place again.
    return Errno(moved ? EAGAIN : kRestartNoIntr);
  }
}

ErrnoOr<int> Futexes::requeue_to_lock(const Mm::SharedPlace& from, uint64_t address,
                                      uint32_t expected, const Lock& to, int move,
                                      const Lives& lives) {
  const Key source{from.object, from.offset};
  const Key target{to.place.object, to.place.offset};
  if (source == target || move < 0) return Errno(EINVAL);
  // A program that changes the words all the time gets the call back.
  constexpr int kTries = 100;
  for (int tries = 0; tries < kTries; ++tries) {
    const Looked looked = GUEST_TRY(look(to, lives));
    Guard guard(mutex_);
    const Hold hold(*this, guard, source, target);
    uint32_t value = 0;
    GUEST_TRY(load(guard, to.mm, address, value));
    if (value != expected) return Errno(EAGAIN);
    const auto queue = queues_.find(source);
    if (queue == queues_.end()) return 0;
    const auto belongs = [&](const Waiter& waiter) {
      return waiter.locker != nullptr && waiter.locker->key == target;
    };
    Waiter& first = *queue->second.front();
    if (!belongs(first)) return Errno(EINVAL);
    const Lock for_first{to.mm, to.place, to.address, first.locker->tid, first.locker->number};
    const Taken taken = GUEST_TRY(take(guard, for_first, move > 0 ? kHasWaiters : 0, looked));
    if (taken == Taken::kLookAgain) continue;
    Looked owner = looked;
    int done = 0;
    std::list<Waiter*>& waiters = queue->second;
    const auto pop = [&] {
      Locker& locker = *waiters.front()->locker;
      waiters.pop_front();
      return &locker;
    };
    if (taken == Taken::kMine) {
      Locker& locker = *pop();
      owner.tid = locker.tid;
      owner.number = locker.number;
      locker.served = true;
      locker.sleeper->wake();
      ++done;
    }
    Errno failure;
    while (!waiters.empty() && done <= move) {
      if (!belongs(*waiters.front())) {
        failure = Errno(EINVAL);
        break;
      }
      Locker& locker = *pop();
      ++done;
      if (const Errno queued = queue_up(locker, owner); !queued.ok()) {
        locker.result = queued;
        locker.served = true;
        locker.sleeper->wake();
      }
    }
    if (waiters.empty()) queues_.erase(queue);
    if (!failure.ok()) return failure;
    return done;
  }
  return Errno(EAGAIN);
}

void Futexes::leave_locks(int32_t tid) {
  Guard guard(mutex_);
  ++endings_;
  // In the order of the keys, for the lock is let go on the way. None becomes its own any more.
  for (auto at = locks_.begin(); at != locks_.end();) {
    if (at->second.owner != tid) {
      ++at;
      continue;
    }
    const Key key = at->first;
    {
      const Hold hold(*this, guard, key);
      const auto queue = locks_.find(key);
      if (queue != locks_.end() && queue->second.owner == tid) hand_over(guard, queue, kOwnerDied);
    }
    at = locks_.upper_bound(key);
  }
}

}  // namespace fluyt::guest
