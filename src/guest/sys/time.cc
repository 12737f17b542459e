#include <signal.h>
#include <time.h>

#include <algorithm>
#include <limits>

#include "guest/platform/host/io.h"
#include "guest/sys/handlers.h"

namespace fluyt::guest {
namespace {

constexpr int64_t kSecond = 1'000'000'000;

struct Microtime {
  int64_t seconds = 0;
  int64_t microseconds = 0;
};

/// The process of a clock of processor time: the two fixed ones, and those of a pid or a thread of
/// ours (clock_getcpuclockid(3), pthread_getcpuclockid(3)). Under lock; null: it is none, or
/// nobody's.
ProcessPtr clocked_process(Task& task, int clock) {
  if (clock == CLOCK_PROCESS_CPUTIME_ID || clock == CLOCK_THREAD_CPUTIME_ID) return task.process;
  if (clock >= 0 || (clock & 3) == 3) return nullptr;
  const int32_t id = ~(clock >> 3);
  if ((clock & 4) != 0) {
    // Of one thread of several nobody but the host could tell.
    const bool own = id == 0 || id == task.number;
    return own && task.process->threads.size() == 1 ? task.process : nullptr;
  }
  if (id == 0) return task.process;
  return task.kernel.find_process(task.meant(id));
}

ErrnoOr<int64_t> read_processor_clock(Task& task, int clock) {
  std::lock_guard lock(task.kernel.lock);
  const ProcessPtr process = clocked_process(task, clock);
  if (!process) return Errno(EINVAL);
  const Usage usage = process->usage();
  const bool user_alone = clock < 0 && (clock & 3) == 1;
  return usage.user_ns + (user_alone ? 0 : usage.system_ns);
}

/// The host's clock behind a guest's.
ErrnoOr<int64_t> read_clock(Task& task, int clock) {
  switch (clock) {
    case CLOCK_REALTIME:
    case CLOCK_MONOTONIC:
    case CLOCK_MONOTONIC_RAW:
    case CLOCK_BOOTTIME:
    case CLOCK_REALTIME_COARSE:
    case CLOCK_MONOTONIC_COARSE:
    case CLOCK_TAI:
    case CLOCK_REALTIME_ALARM:
    case CLOCK_BOOTTIME_ALARM:
      return host::clock_ns(clock);
    case CLOCK_PROCESS_CPUTIME_ID:
    case CLOCK_THREAD_CPUTIME_ID:
      return read_processor_clock(task, clock);
    default:
      return clock < 0 ? read_processor_clock(task, clock) : Errno(EINVAL);
  }
}

bool can_time(int clock) {
  return clock == CLOCK_REALTIME || clock == CLOCK_MONOTONIC || clock == CLOCK_BOOTTIME ||
         clock == CLOCK_TAI;
}

ErrnoOr<uint64_t> sleep_for(Task& task, int clock, const GuestTime& request, bool absolute,
                            uint64_t remaining) {
  int64_t ns = in_ns(request);
  if (absolute) ns -= host::clock_ns(clock);
  if (ns <= 0) return uint64_t{0};
  const Clock::time_point due = after_ns(ns);
  while (true) {
    switch (task.sleeper.sleep(due)) {
      case Sleeper::Outcome::kTimedOut:
        return uint64_t{0};
      case Sleeper::Outcome::kWoken:
        continue;
      case Sleeper::Outcome::kInterrupted: {
        if (!absolute && remaining != 0) {
          const auto left = std::chrono::nanoseconds(due - Clock::now()).count();
          GUEST_TRY(task.put(remaining, from_ns(std::max<int64_t>(left, 0))));
        }
        return Errno(kRestartNoHand);
      }
    }
  }
}

}  // namespace

ErrnoOr<GuestTime> get_time(Task& task, uint64_t address) {
  const GuestTime time = GUEST_TRY(task.get<GuestTime>(address));
  if (time.seconds < 0 || time.nanoseconds < 0 || time.nanoseconds >= kSecond) return Errno(EINVAL);
  return time;
}

int64_t in_ns(const GuestTime& time) {
  int64_t out = 0;
  if (__builtin_mul_overflow(time.seconds, kSecond, &out) ||
      __builtin_add_overflow(out, time.nanoseconds, &out))
    return std::numeric_limits<int64_t>::max();
  return out;
}

GuestTime from_ns(int64_t ns) { return {ns / kSecond, ns % kSecond}; }

namespace {
// A century from now is for ever, and cannot overflow.
constexpr int64_t kForEver = int64_t{100} * 365 * 86400 * kSecond;
}  // namespace

Clock::time_point after_ns(int64_t ns) {
  return Clock::now() + std::chrono::nanoseconds(std::min(ns, kForEver));
}

ErrnoOr<uint64_t> sys_clock_gettime(Task& task, Arguments a) {
  if (as_int(a[0]) == CLOCK_THREAD_CPUTIME_ID) {
    bool alone = false;
    {
      std::lock_guard lock(task.kernel.lock);
      alone = task.process->threads.size() == 1;
    }
    if (!alone) {
      // Only the host can tell one thread of a stub from another.
      if (a[1] >= kGuestTop - kPageSize) return Errno(EFAULT);
      task.context->carry_out();
      return kCarriedOut;
    }
  }
  const int64_t now = GUEST_TRY(read_clock(task, as_int(a[0])));
  GUEST_TRY(task.put(a[1], from_ns(now)));
  return uint64_t{0};
}

ErrnoOr<uint64_t> sys_clock_settime(Task& task, Arguments a) {
  GUEST_TRY(get_time(task, a[1]));
  // The time is the host's, whoever asks.
  return Errno(as_int(a[0]) == CLOCK_REALTIME ? EPERM : EINVAL);
}

ErrnoOr<uint64_t> sys_settimeofday(Task& task, Arguments a) {
  if (a[0] != 0) GUEST_TRY(task.get<Microtime>(a[0]));
  return Errno(EPERM);
}

ErrnoOr<uint64_t> sys_clock_getres(Task& task, Arguments a) {
  GUEST_TRY(read_clock(task, as_int(a[0])));
  const int64_t resolution =
      as_int(a[0]) < 0 ? 1 : GUEST_TRY(host::clock_resolution_ns(as_int(a[0])));
  if (a[1] != 0) GUEST_TRY(task.put(a[1], from_ns(resolution)));
  return uint64_t{0};
}

ErrnoOr<uint64_t> sys_gettimeofday(Task& task, Arguments a) {
  const int64_t now = host::clock_ns(CLOCK_REALTIME);
  if (a[0] != 0) GUEST_TRY(task.put(a[0], Microtime{now / kSecond, now % kSecond / 1000}));
  if (a[1] != 0) GUEST_TRY(task.put(a[1], uint64_t{0}));
  return uint64_t{0};
}

ErrnoOr<uint64_t> sys_time(Task& task, Arguments a) {
  const int64_t now = host::clock_ns(CLOCK_REALTIME) / kSecond;
  if (a[0] != 0) GUEST_TRY(task.put(a[0], now));
  return static_cast<uint64_t>(now);
}

ErrnoOr<uint64_t> sys_nanosleep(Task& task, Arguments a) {
  const GuestTime request = GUEST_TRY(get_time(task, a[0]));
  return sleep_for(task, CLOCK_MONOTONIC, request, false, a[1]);
}

ErrnoOr<uint64_t> sys_clock_nanosleep(Task& task, Arguments a) {
  if (!can_time(as_int(a[0]))) {
    const bool known = read_clock(task, as_int(a[0])).ok();
    return Errno(known && as_int(a[0]) != CLOCK_THREAD_CPUTIME_ID ? EOPNOTSUPP : EINVAL);
  }
  const GuestTime request = GUEST_TRY(get_time(task, a[2]));
  const bool absolute = (as_int(a[1]) & TIMER_ABSTIME) != 0;
  return sleep_for(task, as_int(a[0]), request, absolute, a[3]);
}

// Timers that send signals.
namespace {

struct IntervalMicro {
  Microtime interval;
  Microtime value;
};
struct IntervalNano {
  GuestTime interval;
  GuestTime value;
};

// Linux starts a timer anew when its signal is taken. This one starts anew by itself, though not
// more often than that, and counts what it left out (timer_getoverrun(2)).
constexpr std::chrono::microseconds kLeastInterval{500};

/// To the first time of it that lies ahead; how many it has passed over.
int64_t advance(Clock::time_point& due, int64_t interval_ns) {
  const Clock::time_point now = Clock::now();
  const int64_t late = std::max<int64_t>(std::chrono::nanoseconds(now - due).count(), 0);
  const int64_t missed = late / interval_ns;
  due += std::chrono::nanoseconds(std::min(interval_ns, kForEver)) * (missed + 1);
  return missed;
}

/// One that nobody is told of is looked at when somebody asks. Under Kernel::lock.
void bring_up(Process::PosixTimer& timer) {
  if (!timer.armed || timer.notify != SIGEV_NONE || timer.due > Clock::now()) return;
  if (timer.interval_ns == 0)
    timer.armed = false;
  else
    advance(timer.due, timer.interval_ns);
}

int64_t until(Clock::time_point due) {
  return std::max<int64_t>(std::chrono::nanoseconds(due - Clock::now()).count(), 1);
}

void fire_real(const std::weak_ptr<Process>& weak, uint64_t generation) {
  const ProcessPtr process = weak.lock();
  if (!process) return;
  Kernel& kernel = process->kernel;
  std::lock_guard lock(kernel.lock);
  Process::RealTimer& timer = process->real_timer;
  if (timer.generation != generation || process->zombie) return;
  kernel.send(*process, make_signal(SIGALRM, SI_KERNEL));
  if (timer.interval_ns == 0) {
    timer.id = 0;
    return;
  }
  advance(timer.due, timer.interval_ns);
  timer.id = kernel.timers.at(std::max(timer.due, Clock::now() + kLeastInterval),
                              [weak, generation] { fire_real(weak, generation); });
}

/// The time that was left of the old one, 0 when it did not run.
IntervalNano set_real_timer(Task& task, int64_t value, int64_t interval) {
  Kernel& kernel = task.kernel;
  IntervalNano before{};
  Timers::Id old = 0;
  {
    std::lock_guard lock(kernel.lock);
    Process::RealTimer& timer = task.process->real_timer;
    before.interval = from_ns(timer.interval_ns);
    if (timer.id != 0) before.value = from_ns(until(timer.due));
    old = timer.id;
    timer.id = 0;
    const uint64_t generation = ++timer.generation;
    timer.interval_ns = interval;
    if (value > 0) {
      timer.due = after_ns(value);
      const std::weak_ptr<Process> weak = task.process;
      timer.id = kernel.timers.at(timer.due, [weak, generation] { fire_real(weak, generation); });
    }
  }
  kernel.timers.cancel(old);
  return before;
}

ErrnoOr<int64_t> micro_ns(const Microtime& time) {
  if (time.seconds < 0 || time.microseconds < 0 || time.microseconds >= 1'000'000)
    return Errno(EINVAL);
  return in_ns({time.seconds, time.microseconds * 1000});
}
Microtime to_micro(const GuestTime& time) {
  return {time.seconds, (time.nanoseconds + 999) / 1000};
}

void fire_posix(const std::weak_ptr<Process>& weak, int id, uint64_t generation) {
  const ProcessPtr process = weak.lock();
  if (!process) return;
  Kernel& kernel = process->kernel;
  std::lock_guard lock(kernel.lock);
  const auto found = process->timers.find(id);
  if (found == process->timers.end() || found->second.generation != generation || process->zombie)
    return;
  Process::PosixTimer& timer = found->second;
  timer.overrun = 0;
  if (timer.interval_ns > 0)
    timer.overrun = static_cast<int>(
        std::min<int64_t>(advance(timer.due, timer.interval_ns), std::numeric_limits<int>::max()));
  kernel.fire_timer(*process, id, timer);
  if (timer.interval_ns == 0) {
    timer.armed = false;
    return;
  }
  timer.id = kernel.timers.at(std::max(timer.due, Clock::now() + kLeastInterval),
                              [=] { fire_posix(weak, id, generation); });
}

ProcessorTimer& processor_timer(Process& process, int which) {
  return which == 1 ? process.virtual_timer : process.profile_timer;
}

/// What is left of one, as the calls for timers show it. Under lock.
IntervalNano remaining(const ProcessorTimer& timer, int64_t now) {
  IntervalNano out{};
  out.interval = from_ns(timer.interval_ns);
  if (timer.due_ns != 0) out.value = from_ns(std::max<int64_t>(timer.due_ns - now, 1));
  return out;
}

int64_t itimer_now(const Process& process, int which) {
  const Usage usage = process.usage();
  return usage.user_ns + (which == 1 ? 0 : usage.system_ns);
}

IntervalNano set_processor_timer(Task& task, int which, int64_t value, int64_t interval) {
  std::lock_guard lock(task.kernel.lock);
  ProcessorTimer& timer = processor_timer(*task.process, which);
  const int64_t now = itimer_now(*task.process, which);
  const IntervalNano before = remaining(timer, now);
  timer.interval_ns = interval;
  timer.due_ns = 0;
  if (value > 0 && __builtin_add_overflow(now, value, &timer.due_ns)) timer.due_ns = INT64_MAX;
  task.kernel.watch_processor_time(task.process);
  return before;
}

}  // namespace

ErrnoOr<uint64_t> sys_setitimer(Task& task, Arguments a) {
  if (as_int(a[0]) < 0 || as_int(a[0]) > 2) return Errno(EINVAL);
  IntervalMicro wanted{};
  if (a[1] != 0) wanted = GUEST_TRY(task.get<IntervalMicro>(a[1]));
  const int64_t value = GUEST_TRY(micro_ns(wanted.value));
  const int64_t interval = GUEST_TRY(micro_ns(wanted.interval));
  const IntervalNano before = as_int(a[0]) == 0
                                  ? set_real_timer(task, value, interval)
                                  : set_processor_timer(task, as_int(a[0]), value, interval);
  if (a[2] != 0)
    GUEST_TRY(task.put(a[2], IntervalMicro{to_micro(before.interval), to_micro(before.value)}));
  return uint64_t{0};
}

ErrnoOr<uint64_t> sys_getitimer(Task& task, Arguments a) {
  if (as_int(a[0]) < 0 || as_int(a[0]) > 2) return Errno(EINVAL);
  IntervalMicro out{};
  if (as_int(a[0]) == 0) {
    std::lock_guard lock(task.kernel.lock);
    const Process::RealTimer& timer = task.process->real_timer;
    out.interval = to_micro(from_ns(timer.interval_ns));
    if (timer.id != 0) out.value = to_micro(from_ns(until(timer.due)));
  } else {
    std::lock_guard lock(task.kernel.lock);
    const IntervalNano left = remaining(processor_timer(*task.process, as_int(a[0])),
                                        itimer_now(*task.process, as_int(a[0])));
    out = {to_micro(left.interval), to_micro(left.value)};
  }
  GUEST_TRY(task.put(a[1], out));
  return uint64_t{0};
}

ErrnoOr<uint64_t> sys_alarm(Task& task, Arguments a) {
  const IntervalNano before =
      set_real_timer(task, int64_t{static_cast<uint32_t>(a[0])} * kSecond, 0);
  int64_t seconds = before.value.seconds;
  if (before.value.nanoseconds >= kSecond / 2 || (seconds == 0 && before.value.nanoseconds != 0))
    ++seconds;
  return static_cast<uint64_t>(seconds);
}

ErrnoOr<uint64_t> sys_timer_create(Task& task, Arguments a) {
  struct SignalEvent {
    uint64_t value;
    int32_t signal;
    int32_t notify;
    int32_t thread;
    int32_t padding[11];
  };
  static_assert(sizeof(SignalEvent) == 64);
  Process::PosixTimer timer;
  timer.clock = as_int(a[0]);
  GUEST_TRY(read_clock(task, timer.clock));
  timer.processor_time = timer.clock < 0 || timer.clock == CLOCK_PROCESS_CPUTIME_ID ||
                         timer.clock == CLOCK_THREAD_CPUTIME_ID;
  if (timer.processor_time) {
    // Those of other processes are not watched, and those of a thread only while it is the only
    // one.
    std::lock_guard lock(task.kernel.lock);
    if (clocked_process(task, timer.clock) != task.process) return Errno(EINVAL);
  } else if (!can_time(timer.clock)) {
    return Errno(EOPNOTSUPP);
  }
  bool by_default = true;
  if (a[1] != 0) {
    const SignalEvent event = GUEST_TRY(task.get<SignalEvent>(a[1]));
    by_default = false;
    timer.value = event.value;
    timer.signal = event.signal;
    timer.notify = event.notify & ~4;
    if ((event.notify & 4) != 0) timer.thread = task.meant(event.thread);
    if (timer.notify != SIGEV_SIGNAL && timer.notify != SIGEV_NONE) return Errno(EINVAL);
    if (timer.notify == SIGEV_SIGNAL && (timer.signal < 1 || timer.signal > kSignals))
      return Errno(EINVAL);
  }
  constexpr size_t kMaxTimers = 1024;
  int id = 0;
  {
    std::lock_guard lock(task.kernel.lock);
    if (task.process->timers.size() >= kMaxTimers) return Errno(EAGAIN);
    id = task.process->next_timer++;
    if (by_default) timer.value = static_cast<uint64_t>(id);
    task.process->timers[id] = timer;
  }
  GUEST_TRY(task.put(a[2], id));
  return uint64_t{0};
}

ErrnoOr<uint64_t> sys_timer_settime(Task& task, Arguments a) {
  const IntervalNano wanted = GUEST_TRY(task.get<IntervalNano>(a[2]));
  for (const GuestTime& time : {wanted.interval, wanted.value})
    if (time.seconds < 0 || time.nanoseconds < 0 || time.nanoseconds >= kSecond)
      return Errno(EINVAL);
  IntervalNano before{};
  Timers::Id old = 0;
  {
    std::lock_guard lock(task.kernel.lock);
    const auto found = task.process->timers.find(as_int(a[0]));
    if (found == task.process->timers.end()) return Errno(EINVAL);
    Process::PosixTimer& timer = found->second;
    if (timer.processor_time) {
      const Usage usage = task.process->usage();
      const int64_t now = usage.user_ns + usage.system_ns;
      before = remaining(timer.by_processor, now);
      timer.by_processor.interval_ns = in_ns(wanted.interval);
      timer.by_processor.due_ns = in_ns(wanted.value);
      if (timer.by_processor.due_ns != 0 && (as_int(a[1]) & TIMER_ABSTIME) == 0 &&
          __builtin_add_overflow(now, timer.by_processor.due_ns, &timer.by_processor.due_ns))
        timer.by_processor.due_ns = std::numeric_limits<int64_t>::max();
      task.kernel.watch_processor_time(task.process);
      if (a[3] != 0) GUEST_TRY(task.put(a[3], before));
      return uint64_t{0};
    }
    before.interval = from_ns(timer.interval_ns);
    bring_up(timer);
    if (timer.armed) {
      before.value = from_ns(until(timer.due));
      old = timer.id;
    }
    const uint64_t generation = ++timer.generation;
    int64_t value = in_ns(wanted.value);
    timer.armed = value != 0;
    timer.interval_ns = in_ns(wanted.interval);
    if (timer.armed) {
      if ((as_int(a[1]) & TIMER_ABSTIME) != 0)
        value = std::max<int64_t>(value - host::clock_ns(timer.clock), 0);
      timer.due = after_ns(value);
      timer.id = 0;
    }
    if (timer.armed && timer.notify != SIGEV_NONE) {
      const std::weak_ptr<Process> weak = task.process;
      const int id = as_int(a[0]);
      timer.id = task.kernel.timers.at(timer.due, [=] { fire_posix(weak, id, generation); });
    }
  }
  task.kernel.timers.cancel(old);
  if (a[3] != 0) GUEST_TRY(task.put(a[3], before));
  return uint64_t{0};
}

ErrnoOr<uint64_t> sys_timer_gettime(Task& task, Arguments a) {
  IntervalNano out{};
  {
    std::lock_guard lock(task.kernel.lock);
    const auto found = task.process->timers.find(as_int(a[0]));
    if (found == task.process->timers.end()) return Errno(EINVAL);
    if (found->second.processor_time) {
      const Usage usage = task.process->usage();
      out = remaining(found->second.by_processor, usage.user_ns + usage.system_ns);
    } else {
      out.interval = from_ns(found->second.interval_ns);
    }
    bring_up(found->second);
    if (found->second.armed) out.value = from_ns(until(found->second.due));
  }
  GUEST_TRY(task.put(a[1], out));
  return uint64_t{0};
}

ErrnoOr<uint64_t> sys_timer_getoverrun(Task& task, Arguments a) {
  std::lock_guard lock(task.kernel.lock);
  const auto found = task.process->timers.find(as_int(a[0]));
  if (found == task.process->timers.end()) return Errno(EINVAL);
  return static_cast<uint64_t>(found->second.overrun);
}

ErrnoOr<uint64_t> sys_timer_delete(Task& task, Arguments a) {
  Timers::Id old = 0;
  {
    std::lock_guard lock(task.kernel.lock);
    const auto found = task.process->timers.find(as_int(a[0]));
    if (found == task.process->timers.end()) return Errno(EINVAL);
    if (found->second.armed) old = found->second.id;
    task.process->timers.erase(found);
  }
  task.kernel.timers.cancel(old);
  return uint64_t{0};
}

}  // namespace fluyt::guest
