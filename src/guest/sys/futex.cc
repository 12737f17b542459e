#include <sys/auxv.h>

#include <algorithm>

#include "guest/platform/host/io.h"
#include "guest/sys/handlers.h"

// futex(2), futex_waitv(2), membarrier(2), rseq(2).
namespace fluyt::guest {
namespace {

// As the manual pages spell them.
enum : int {
  kWait = 0,
  kWake = 1,
  kRequeue = 3,
  kCmpRequeue = 4,
  kWakeOp = 5,
  kLockPi = 6,
  kUnlockPi = 7,
  kTrylockPi = 8,
  kWaitBitset = 9,
  kWakeBitset = 10,
  kWaitRequeuePi = 11,
  kCmpRequeuePi = 12,
  kLockPi2 = 13,
};
constexpr int kPrivateFlag = 128;
constexpr int kClockRealtime = 256;

enum : uint32_t {
  kQuery = 0,
  kGlobal = 1 << 0,
  kGlobalExpedited = 1 << 1,
  kRegisterGlobalExpedited = 1 << 2,
  kPrivateExpedited = 1 << 3,
  kRegisterPrivateExpedited = 1 << 4,
  kPrivateExpeditedSyncCore = 1 << 5,
  kRegisterPrivateExpeditedSyncCore = 1 << 6,
  kPrivateExpeditedRseq = 1 << 7,
  kRegisterPrivateExpeditedRseq = 1 << 8,
  kGetRegistrations = 1 << 9,
};
static_assert(kBarriersWithin == (kPrivateExpeditedSyncCore | kRegisterPrivateExpeditedSyncCore |
                                  kPrivateExpeditedRseq | kRegisterPrivateExpeditedRseq));

constexpr int kRealtimeClock = 0;
constexpr int kMonotonicClock = 1;

/// The absolute time at `address`; none for 0.
ErrnoOr<Deadline> absolute_deadline(Task& task, uint64_t address, int clock) {
  if (address == 0) return Deadline();
  const GuestTime time = GUEST_TRY(get_time(task, address));
  return Deadline(after_ns(std::max<int64_t>(in_ns(time) - host::clock_ns(clock), 0)));
}

/// A word that a call names.
ErrnoOr<Mm::SharedPlace> place_at(Task& task, uint64_t address, bool is_private) {
  if (address % 4 != 0) return Errno(EINVAL);
  if (address >= kGuestTop) return Errno(EFAULT);
  return is_private ? Futexes::private_place(*task.mm, address) : task.mm->place_of(address);
}

/// The thread of the number, unless it ends; 0: there is none.
int32_t lives(Task& task, int32_t number) {
  Kernel& kernel = task.kernel;
  std::lock_guard lock(kernel.lock);
  const auto found = kernel.tasks.find(task.meant(number));
  return found != kernel.tasks.end() && !found->second->leaving ? found->first : 0;
}

/// What makes and takes locks with priority inheritance.
ErrnoOr<uint64_t> call_lock(Task& task, int command, bool realtime, const Futexes::Lock& lock,
                            uint64_t timeout) {
  const auto is_there = [&task](int32_t number) { return lives(task, number); };
  Futexes& futexes = task.kernel.futexes;
  switch (command) {
    case kLockPi:
    case kLockPi2: {
      const int clock = command == kLockPi || realtime ? kRealtimeClock : kMonotonicClock;
      const Deadline deadline = GUEST_TRY(absolute_deadline(task, timeout, clock));
      GUEST_TRY(futexes.lock(lock, Futexes::Way::kWait, is_there, task.sleeper, deadline));
      return uint64_t{0};
    }
    case kTrylockPi:
      GUEST_TRY(futexes.lock(lock, Futexes::Way::kTry, is_there, task.sleeper, {}));
      return uint64_t{0};
    default:
      GUEST_TRY(futexes.unlock(lock));
      return uint64_t{0};
  }
}

}  // namespace

ErrnoOr<uint64_t> sys_futex(Task& task, Arguments a) {
  const int op = as_int(a[1]);
  const int command = op & ~(kPrivateFlag | kClockRealtime);
  const bool realtime = (op & kClockRealtime) != 0;
  const bool is_private = (op & kPrivateFlag) != 0;
  Mm& mm = *task.mm;
  Futexes& futexes = task.kernel.futexes;
  if (realtime && command != kWaitBitset && command != kWaitRequeuePi && command != kLockPi2)
    return Errno(ENOSYS);
  const Mm::SharedPlace place = GUEST_TRY(place_at(task, a[0], is_private));
  const auto second = [&] { return place_at(task, a[4], is_private); };
  const auto count = as_int(a[2]);
  const auto value = static_cast<uint32_t>(a[2]);
  const auto last = static_cast<uint32_t>(a[5]);
  switch (command) {
    case kWait: {
      Deadline deadline;
      if (a[3] != 0) {
        const GuestTime time = GUEST_TRY(get_time(task, a[3]));
        deadline = after_ns(std::max<int64_t>(in_ns(time), 0));
      }
      const Errno done = futexes.wait(mm, place, a[0], value, ~0U, task.sleeper, deadline);
      // A relative timeout made again would begin anew.
      if (done.value() == kRestartSys && a[3] != 0) return Errno(kRestartNoHand);
      if (!done.ok()) return done;
      return uint64_t{0};
    }
    case kWaitBitset: {
      const Deadline deadline =
          GUEST_TRY(absolute_deadline(task, a[3], realtime ? kRealtimeClock : kMonotonicClock));
      GUEST_TRY(futexes.wait(mm, place, a[0], value, last, task.sleeper, deadline));
      return uint64_t{0};
    }
    case kWake:
    case kWakeBitset: {
      if (command == kWakeBitset && last == 0) return Errno(EINVAL);
      const uint32_t bits = command == kWakeBitset ? last : ~0U;
      const int woken = GUEST_TRY(futexes.wake(place, std::max(count, 1), bits));
      return static_cast<uint64_t>(woken);
    }
    case kRequeue:
    case kCmpRequeue: {
      const Mm::SharedPlace to = GUEST_TRY(second());
      const int done = GUEST_TRY(futexes.requeue(
          mm, place, a[0], command == kCmpRequeue ? &last : nullptr, count, to, as_int(a[3])));
      return static_cast<uint64_t>(done);
    }
    case kWakeOp: {
      const Mm::SharedPlace other = GUEST_TRY(second());
      const int done =
          GUEST_TRY(futexes.wake_op(mm, place, count, other, a[4], as_int(a[3]), last));
      return static_cast<uint64_t>(done);
    }
    case kLockPi:
    case kLockPi2:
    case kTrylockPi:
    case kUnlockPi:
      return call_lock(task, command, realtime, {mm, place, a[0], task.tid, task.number}, a[3]);
    case kWaitRequeuePi: {
      const Deadline deadline =
          GUEST_TRY(absolute_deadline(task, a[3], realtime ? kRealtimeClock : kMonotonicClock));
      const Futexes::Lock lock{mm, GUEST_TRY(second()), a[4], task.tid, task.number};
      GUEST_TRY(futexes.wait_for_lock(place, a[0], value, lock, task.sleeper, deadline));
      return uint64_t{0};
    }
    case kCmpRequeuePi: {
      if (count != 1) return Errno(EINVAL);
      const Futexes::Lock lock{mm, GUEST_TRY(second()), a[4], 0, 0};
      const int done = GUEST_TRY(
          futexes.requeue_to_lock(place, a[0], last, lock, as_int(a[3]),
                                  [&task](int32_t number) { return lives(task, number); }));
      return static_cast<uint64_t>(done);
    }
    default:
      return Errno(ENOSYS);
  }
}

ErrnoOr<uint64_t> sys_futex_waitv(Task& task, Arguments a) {
  constexpr uint32_t kSize32 = 2;
  constexpr uint32_t kPrivate = 128;
  constexpr uint32_t kMostWaits = 128;
  struct One {
    uint64_t expected, address;
    uint32_t flags, reserved;
  };
  const auto count = static_cast<uint32_t>(a[1]);
  if (static_cast<uint32_t>(a[2]) != 0) return Errno(EINVAL);
  if (count == 0 || count > kMostWaits || a[0] == 0) return Errno(EINVAL);
  Deadline deadline;
  if (a[3] != 0) {
    const int clock = as_int(a[4]);
    if (clock != kRealtimeClock && clock != kMonotonicClock) return Errno(EINVAL);
    deadline = GUEST_TRY(absolute_deadline(task, a[3], clock));
  }
  std::vector<One> ones(count);
  GUEST_TRY(task.copy_in(a[0], std::as_writable_bytes(std::span(ones))));
  std::vector<Futexes::Wanted> wanted;
  for (const One& one : ones) {
    if ((one.flags & ~kPrivate) != kSize32 || one.reserved != 0 || one.expected > UINT32_MAX)
      return Errno(EINVAL);
    const Mm::SharedPlace place =
        GUEST_TRY(place_at(task, one.address, (one.flags & kPrivate) != 0));
    wanted.push_back({place, one.address, static_cast<uint32_t>(one.expected)});
  }
  const int woken =
      GUEST_TRY(task.kernel.futexes.wait_for_any(*task.mm, wanted, task.sleeper, deadline));
  return static_cast<uint64_t>(woken);
}

ErrnoOr<uint64_t> sys_membarrier(Task& task, Arguments a) {
  // Registering makes the others allowed alone: `barrier` reaches everybody.
  constexpr uint32_t kRegister = kRegisterGlobalExpedited | kRegisterPrivateExpedited;
  constexpr uint32_t kBarriers = kGlobal | kGlobalExpedited | kPrivateExpedited;
  constexpr uint32_t kOneProcessor = 1;
  const auto command = static_cast<uint32_t>(a[0]);
  const auto flags = static_cast<uint32_t>(a[1]);
  if (flags != 0 && (command != kPrivateExpeditedRseq || flags != kOneProcessor))
    return Errno(EINVAL);
  std::atomic<uint32_t>& registered = task.mm->barriers;
  switch (command) {
    case kQuery:
      GUEST_TRY(task.kernel.platform.barrier());
      return uint64_t{kRegister | kBarriers | kGetRegistrations |
                      task.kernel.platform.barriers_within()};
    case kRegisterGlobalExpedited:
    case kRegisterPrivateExpedited:
      GUEST_TRY(task.kernel.platform.barrier());
      registered.fetch_or(command);
      return uint64_t{0};
    case kGetRegistrations: {
      // Whoever registers for the one kind begins to be registered for the plain one.
      const uint32_t all = registered.load();
      return uint64_t{(all & kBarriersWithin) != 0 ? all | kRegisterPrivateExpedited : all};
    }
    case kRegisterPrivateExpeditedSyncCore:
    case kRegisterPrivateExpeditedRseq:
    case kPrivateExpeditedSyncCore:
    case kPrivateExpeditedRseq:
      // The threads and their memory are the host's, and so is who registered.
      if ((task.kernel.platform.barriers_within() & command) == 0) return Errno(EINVAL);
      GUEST_TRY(task.mm->space().barrier_within(command, flags, as_int(a[2])));
      if (command == kRegisterPrivateExpeditedSyncCore || command == kRegisterPrivateExpeditedRseq)
        registered.fetch_or(command);
      return uint64_t{0};
    case kPrivateExpedited:
      if ((registered.load() & kRegisterPrivateExpedited) == 0) return Errno(EPERM);
      [[fallthrough]];
    case kGlobal:
    case kGlobalExpedited:
      GUEST_TRY(task.kernel.platform.barrier());
      return uint64_t{0};
    default:
      return Errno(EINVAL);
  }
}

ErrnoOr<uint64_t> sys_rseq(Task& task, Arguments a) {
  constexpr uint32_t kUnregister = 1;
  constexpr uint32_t kFirstLength = 32;
  constexpr uint64_t kSequence = 8;  // where the area says what is under way
  if (!task.kernel.platform.has_rseq()) return Errno(ENOSYS);
  const RseqArea wanted{a[0], static_cast<uint32_t>(a[1]), static_cast<uint32_t>(a[3])};
  const auto flags = static_cast<uint32_t>(a[2]);
  const RseqArea has = task.context->rseq();
  if (flags != 0 && flags != kUnregister) return Errno(EINVAL);
  if (flags == kUnregister || has.address != 0) {
    if (has.address == 0 || has.address != wanted.address || has.length != wanted.length)
      return Errno(EINVAL);
    if (has.signature != wanted.signature) return Errno(EPERM);
    if (flags != kUnregister) return Errno(EBUSY);
  } else {
    const uint64_t alignment =
        wanted.length == kFirstLength ? kFirstLength : getauxval(AT_RSEQ_ALIGN);
    const uint64_t least =
        wanted.length == kFirstLength ? kFirstLength : getauxval(AT_RSEQ_FEATURE_SIZE);
    if (alignment == 0 || wanted.address % alignment != 0 || wanted.length < kFirstLength ||
        wanted.length < least)
      return Errno(EINVAL);
    if (wanted.address >= kGuestTop || wanted.length > kGuestTop - wanted.address)
      return Errno(EFAULT);
  }
  // The host ends who has no such memory; since 6.14 it clears what was under way.
  GUEST_TRY(task.put(wanted.address + kSequence, uint64_t{0}));
  task.context->carry_out();
  return kCarriedOut;
}

}  // namespace fluyt::guest
