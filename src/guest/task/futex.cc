#include "guest/task/futex.h"

#include <climits>
#include <span>

namespace fluyt::guest {
namespace {

Errno load(Mm& mm, uint64_t address, uint32_t& value) {
  if (address % 4 != 0) return Errno(EINVAL);
  return mm.space().read(address, std::as_writable_bytes(std::span(&value, 1))) == sizeof value
             ? kOk
             : Errno(EFAULT);
}

}  // namespace

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
  std::unique_lock lock(mutex_);
  uint32_t value = 0;
  GUEST_TRY(load(mm, address, value));
  if (value != expected) return Errno(EAGAIN);
  std::list<Waiter*>& queue = queues_[waiter.key];
  waiter.at = queue.insert(queue.end(), &waiter);
  for (;;) {
    lock.unlock();
    const Sleeper::Outcome outcome = sleeper.sleep(deadline);
    lock.lock();
    if (waiter.woken) return kOk;
    if (outcome == Sleeper::Outcome::kWoken) continue;
    leave(waiter);
    return Errno(outcome == Sleeper::Outcome::kTimedOut ? ETIMEDOUT : kRestartSys);
  }
}

int Futexes::wake_locked(const Key& key, int count, uint32_t bits) {
  const auto queue = queues_.find(key);
  if (queue == queues_.end()) return 0;
  int woken = 0;
  for (auto at = queue->second.begin(); at != queue->second.end() && woken < count;) {
    Waiter* waiter = *at;
    if ((waiter->bits & bits) == 0) {
      ++at;
      continue;
    }
    at = queue->second.erase(at);
    waiter->woken = true;
    waiter->sleeper->wake();
    ++woken;
  }
  if (queue->second.empty()) queues_.erase(queue);
  return woken;
}

int Futexes::wake(const Mm::SharedPlace& place, int count, uint32_t bits) {
  std::lock_guard lock(mutex_);
  return wake_locked({place.object, place.offset}, count, bits);
}

ErrnoOr<int> Futexes::requeue(Mm& mm, const Mm::SharedPlace& from, uint64_t address,
                              const uint32_t* expected, int count, const Mm::SharedPlace& to,
                              int move) {
  if (count < 0 || move < 0) return Errno(EINVAL);
  std::lock_guard lock(mutex_);
  if (expected != nullptr) {
    uint32_t value = 0;
    GUEST_TRY(load(mm, address, value));
    if (value != *expected) return Errno(EAGAIN);
  }
  const Key source{from.object, from.offset};
  const Key target{to.object, to.offset};
  int done = wake_locked(source, count, ~0U);
  const auto queue = queues_.find(source);
  if (queue == queues_.end() || source == target) return done;
  int moved = 0;
  std::list<Waiter*>& destination = queues_[target];
  while (!queue->second.empty() && moved < move) {
    Waiter* waiter = queue->second.front();
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
  std::lock_guard lock(mutex_);
  uint32_t old = 0;
  GUEST_TRY(load(mm, address, old));
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
  if (mm.space().write(address, std::as_bytes(std::span(&value, 1))) != sizeof value)
    return Errno(EFAULT);
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
  int woken = wake_locked({first.object, first.offset}, count, ~0U);
  if (holds) woken += wake_locked({second.object, second.offset}, second_count, ~0U);
  return woken;
}

}  // namespace fluyt::guest
