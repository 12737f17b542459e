#include <sched.h>

#include <algorithm>

#include "guest/platform/host/io.h"
#include "guest/sys/handlers.h"

// What programs say about how they are to be scheduled: checked as Linux does and remembered. The
// host schedules their threads as it does all of the sandbox's.
namespace fluyt::guest {
namespace {

constexpr int kResetOnFork = 0x40000000;
constexpr int kHighest = 99;

bool is_real_time(int policy) { return policy == SCHED_FIFO || policy == SCHED_RR; }
bool is_known(int policy) {
  return is_real_time(policy) || policy == SCHED_OTHER || policy == SCHED_BATCH ||
         policy == SCHED_IDLE;
}

/// `negative`: what an id below 0 is. Under lock.
ErrnoOr<Task*> find_thread(Task& task, int32_t id, Errno negative = Errno(EINVAL)) {
  if (id < 0) return negative;
  if (id == 0) return &task;
  const auto found = task.kernel.tasks.find(task.meant(id));
  if (found == task.kernel.tasks.end()) return Errno(ESRCH);
  return found->second;
}

bool may_schedule(const Task& task, const Task& other) {
  return task.credentials.can_in(kCapSysNice, other.credentials.user.get()) ||
         task.credentials.euid == other.credentials.uid ||
         task.credentials.euid == other.credentials.euid;
}

Errno set_policy(Task& task, int32_t id, int policy, int priority) {
  std::lock_guard lock(task.kernel.lock);
  Task* other = GUEST_TRY(find_thread(task, id));
  const bool reset = policy >= 0 && (policy & kResetOnFork) != 0;
  if (policy < 0)
    policy = other->schedule.policy;
  else
    policy &= ~kResetOnFork;
  if (!is_known(policy)) return Errno(EINVAL);
  const bool fits = is_real_time(policy) ? priority >= 1 && priority <= kHighest : priority == 0;
  if (!fits) return Errno(EINVAL);
  if (!may_schedule(task, *other)) return Errno(EPERM);
  if (is_real_time(policy) && !task.credentials.can(kCapSysNice)) {
    constexpr size_t kRtPrio = 14;  // RLIMIT_RTPRIO
    const uint64_t limit = other->process->limits[kRtPrio].soft;
    if (static_cast<uint64_t>(priority) > limit) return Errno(EPERM);
  }
  other->schedule.policy = policy;
  other->schedule.priority = priority;
  other->schedule.reset_on_fork = reset;
  return kOk;
}

/// Calls `each` for the threads that which and who of getpriority(2) mean; false: there are none.
template <class Each>
bool for_each_meant(Task& task, int which, int32_t who, Each each) {  // under lock
  bool any = false;
  for (const auto& [id, other] : task.kernel.tasks) {
    if (!other->process) continue;
    bool meant = false;
    switch (which) {
      case 0:
        meant = who == 0 ? other == &task : task.meant(who) == id;
        break;
      case 1:
        meant = other->process->group == (who == 0 ? task.process->group : task.meant(who));
        break;
      default:
        meant = other->credentials.uid ==
                (who == 0 ? task.credentials.uid : task.kernel_uid(static_cast<uint32_t>(who)));
    }
    if (!meant) continue;
    any = true;
    each(*other);
  }
  return any;
}

}  // namespace

ErrnoOr<uint64_t> sys_getpriority(Task& task, Arguments a) {
  if (as_int(a[0]) < 0 || as_int(a[0]) > 2) return Errno(EINVAL);
  int lowest = 20;
  std::lock_guard lock(task.kernel.lock);
  if (!for_each_meant(task, as_int(a[0]), as_int(a[1]),
                      [&](Task& each) { lowest = std::min(lowest, each.schedule.nice); }))
    return Errno(ESRCH);
  return static_cast<uint64_t>(20 - lowest);
}

ErrnoOr<uint64_t> sys_setpriority(Task& task, Arguments a) {
  if (as_int(a[0]) < 0 || as_int(a[0]) > 2) return Errno(EINVAL);
  const int nice = std::clamp(as_int(a[2]), -20, 19);
  Errno refused;
  std::lock_guard lock(task.kernel.lock);
  const bool any = for_each_meant(task, as_int(a[0]), as_int(a[1]), [&](Task& each) {
    constexpr size_t kNice = 13;  // RLIMIT_NICE
    const uint64_t limit = each.process->limits[kNice].soft;
    if (!may_schedule(task, each)) {
      refused = Errno(EPERM);
    } else if (nice < each.schedule.nice && !task.credentials.can(kCapSysNice) &&
               static_cast<uint64_t>(20 - nice) > limit) {
      refused = Errno(EACCES);
    } else {
      each.schedule.nice = nice;
    }
  });
  if (!any) return Errno(ESRCH);
  GUEST_TRY(refused);
  return uint64_t{0};
}

ErrnoOr<uint64_t> sys_sched_setparam(Task& task, Arguments a) {
  if (a[1] == 0) return Errno(EINVAL);
  const int priority = GUEST_TRY(task.get<int>(a[1]));
  GUEST_TRY(set_policy(task, as_int(a[0]), -1, priority));
  return uint64_t{0};
}

ErrnoOr<uint64_t> sys_sched_setscheduler(Task& task, Arguments a) {
  if (as_int(a[1]) < 0 || a[2] == 0) return Errno(EINVAL);
  const int priority = GUEST_TRY(task.get<int>(a[2]));
  GUEST_TRY(set_policy(task, as_int(a[0]), as_int(a[1]), priority));
  return uint64_t{0};
}

ErrnoOr<uint64_t> sys_sched_getscheduler(Task& task, Arguments a) {
  std::lock_guard lock(task.kernel.lock);
  const Task* other = GUEST_TRY(find_thread(task, as_int(a[0])));
  return static_cast<uint64_t>(other->schedule.policy |
                               (other->schedule.reset_on_fork ? kResetOnFork : 0));
}

ErrnoOr<uint64_t> sys_sched_getparam(Task& task, Arguments a) {
  if (a[1] == 0) return Errno(EINVAL);
  int priority = 0;
  {
    std::lock_guard lock(task.kernel.lock);
    const Task* other = GUEST_TRY(find_thread(task, as_int(a[0])));
    priority = other->schedule.priority;
  }
  GUEST_TRY(task.put(a[1], priority));
  return uint64_t{0};
}

ErrnoOr<uint64_t> sys_sched_getaffinity(Task& task, Arguments a) {
  const auto size = static_cast<uint32_t>(a[1]);
  std::vector<uint64_t> mask;
  {
    std::lock_guard lock(task.kernel.lock);
    const ErrnoOr<Task*> other = find_thread(task, as_int(a[0]), Errno(ESRCH));
    if (size % sizeof(uint64_t) != 0 || size * 8 < task.container->processors())
      return Errno(EINVAL);
    if (!other.ok()) return other.error();
    mask = other.value()->processors();
  }
  GUEST_TRY(task.copy_out(a[2], std::as_bytes(std::span(mask))));
  return uint64_t{mask.size() * sizeof(uint64_t)};
}

ErrnoOr<uint64_t> sys_sched_setaffinity(Task& task, Arguments a) {
  constexpr size_t kMost = 128;  // bytes
  std::vector<uint64_t> mask(kMost / sizeof(uint64_t));
  const size_t size = std::min<size_t>(static_cast<uint32_t>(a[1]), kMost);
  GUEST_TRY(task.copy_in(a[2], std::as_writable_bytes(std::span(mask)).first(size)));
  std::lock_guard lock(task.kernel.lock);
  Task* other = GUEST_TRY(find_thread(task, as_int(a[0]), Errno(ESRCH)));
  if (!may_schedule(task, *other)) return Errno(EPERM);
  const std::vector<uint64_t> all = all_processors(other->container->processors());
  mask.resize(all.size());
  bool any = false;
  for (size_t i = 0; i < all.size(); ++i) any |= (mask[i] &= all[i]) != 0;
  if (!any) return Errno(EINVAL);
  other->schedule.allowed = std::move(mask);
  return uint64_t{0};
}

ErrnoOr<uint64_t> sys_sched_get_priority_max(Task&, Arguments a) {
  if (!is_known(as_int(a[0]))) return Errno(EINVAL);
  return uint64_t{is_real_time(as_int(a[0])) ? 99U : 0U};
}
ErrnoOr<uint64_t> sys_sched_get_priority_min(Task&, Arguments a) {
  if (!is_known(as_int(a[0]))) return Errno(EINVAL);
  return uint64_t{is_real_time(as_int(a[0])) ? 1U : 0U};
}

ErrnoOr<uint64_t> sys_sched_rr_get_interval(Task& task, Arguments a) {
  int policy = 0;
  {
    std::lock_guard lock(task.kernel.lock);
    const Task* other = GUEST_TRY(find_thread(task, as_int(a[0])));
    policy = other->schedule.policy;
  }
  constexpr int64_t kRoundRobin = 100'000'000;
  constexpr int64_t kSlice = 3'000'000;
  const int64_t ns = policy == SCHED_RR ? kRoundRobin : policy == SCHED_FIFO ? 0 : kSlice;
  GUEST_TRY(task.put(a[1], GuestTime{0, ns}));
  return uint64_t{0};
}

}  // namespace fluyt::guest
