#include <signal.h>

#include <algorithm>

#include "guest/sys/handlers.h"

namespace fluyt::guest {
namespace {

constexpr SignalSet kUnblockable = signal_bit(SIGKILL) | signal_bit(SIGSTOP);

bool is_signal(int signal) { return signal >= 1 && signal <= kSignals; }

ErrnoOr<uint64_t> send_to_thread(Task& task, int32_t group, int32_t thread, int signal, int code) {
  if (thread <= 0 || signal < 0 || signal > kSignals) return Errno(EINVAL);
  std::lock_guard lock(task.kernel.lock);
  const auto found = task.kernel.tasks.find(task.meant(thread));
  if (found == task.kernel.tasks.end() ||
      (group > 0 && found->second->process->pid != task.meant(group)))
    return Errno(ESRCH);
  const Process& process = *found->second->process;
  GUEST_TRY(task.kernel.may_signal(task, *found->second->process, signal));
  if (signal != 0) task.kernel.send_to(*found->second, signal_from(task, process, signal, code));
  return uint64_t{0};
}

}  // namespace

void swap_mask(Task& task, SignalSet mask) {
  std::lock_guard lock(task.kernel.lock);
  task.restore_blocked = task.blocked;
  task.blocked = mask & ~kUnblockable;
  if (task.has_signal()) task.call_in();
}

void unswap_mask(Task& task) {
  std::lock_guard lock(task.kernel.lock);
  if (!task.restore_blocked) return;
  task.blocked = *task.restore_blocked;
  task.restore_blocked.reset();
}

ErrnoOr<uint64_t> sys_rt_sigaction(Task& task, Arguments a) {
  const int signal = as_int(a[0]);
  if (a[3] != 8 || !is_signal(signal)) return Errno(EINVAL);
  SignalAction wanted;
  if (a[1] != 0) {
    if (signal == SIGKILL || signal == SIGSTOP) return Errno(EINVAL);
    wanted = GUEST_TRY(task.get<SignalAction>(a[1]));
  }
  SignalAction before;
  {
    std::lock_guard lock(task.kernel.lock);
    SignalAction& slot = task.process->actions->of[static_cast<size_t>(signal)];
    before = slot;
    if (a[1] != 0) {
      wanted.mask &= ~kUnblockable;
      slot = wanted;
      const bool ignored =
          wanted.handler == 1 ||
          (wanted.handler == 0 && default_action(signal) == DefaultAction::kIgnore);
      if (ignored) {
        task.process->pending.discard(signal_bit(signal));
        for (Task* thread : task.process->threads) thread->pending.discard(signal_bit(signal));
      }
      if (wanted.handler > 1 && (task.process->early & signal_bit(signal)) != 0) {
        task.process->early &= ~signal_bit(signal);
        task.kernel.send(*task.process, make_signal(signal, SI_USER));
      }
    }
  }
  if (a[2] != 0) GUEST_TRY(task.put(a[2], before));
  return uint64_t{0};
}

ErrnoOr<uint64_t> sys_rt_sigprocmask(Task& task, Arguments a) {
  if (a[3] != 8) return Errno(EINVAL);
  SignalSet wanted = 0;
  if (a[1] != 0) wanted = GUEST_TRY(task.get<SignalSet>(a[1]));
  SignalSet before = 0;
  {
    std::lock_guard lock(task.kernel.lock);
    before = task.blocked;
    if (a[1] != 0) {
      switch (as_int(a[0])) {
        case SIG_BLOCK:
          task.blocked |= wanted & ~kUnblockable;
          break;
        case SIG_UNBLOCK:
          task.blocked &= ~wanted;
          break;
        case SIG_SETMASK:
          task.blocked = wanted & ~kUnblockable;
          break;
        default:
          return Errno(EINVAL);
      }
      if (task.has_signal()) task.call_in();
    }
  }
  if (a[2] != 0) GUEST_TRY(task.put(a[2], before));
  return uint64_t{0};
}

ErrnoOr<uint64_t> sys_rt_sigreturn(Task& task, Arguments) {
  if (!task.return_from_signal().ok()) task.force(SIGSEGV, SI_KERNEL, 0);
  return kCarriedOut;
}

ErrnoOr<uint64_t> sys_rt_sigpending(Task& task, Arguments a) {
  if (a[1] > 8) return Errno(EINVAL);
  SignalSet set = 0;
  {
    std::lock_guard lock(task.kernel.lock);
    set = (task.pending.set() | task.process->pending.set()) & task.blocked;
  }
  GUEST_TRY(task.copy_out(a[0], std::as_bytes(std::span(&set, 1)).first(a[1])));
  return uint64_t{0};
}

ErrnoOr<uint64_t> sys_rt_sigsuspend(Task& task, Arguments a) {
  if (a[1] != 8) return Errno(EINVAL);
  const SignalSet mask = GUEST_TRY(task.get<SignalSet>(a[0]));
  swap_mask(task, mask);
  while (task.sleeper.sleep({}) != Sleeper::Outcome::kInterrupted) {
  }
  return Errno(kRestartNoHand);
}

ErrnoOr<uint64_t> sys_pause(Task& task, Arguments) {
  while (task.sleeper.sleep({}) != Sleeper::Outcome::kInterrupted) {
  }
  return Errno(kRestartNoHand);
}

ErrnoOr<uint64_t> sys_rt_sigtimedwait(Task& task, Arguments a) {
  if (a[3] != 8) return Errno(EINVAL);
  const SignalSet wanted = GUEST_TRY(task.get<SignalSet>(a[0])) & ~kUnblockable;
  Deadline deadline;
  if (a[2] != 0) {
    const GuestTime time = GUEST_TRY(get_time(task, a[2]));
    deadline = after_ns(in_ns(time));
  }
  std::optional<SignalInfo> info;
  const auto take = [&] {
    std::lock_guard lock(task.kernel.lock);
    info = task.pending.take(~wanted);
    if (!info) info = task.process->pending.take(~wanted);
    return info.has_value();
  };
  if (!take()) {
    {
      // While we wait those signals wake us, though they stay blocked.
      std::lock_guard lock(task.kernel.lock);
      task.restore_blocked = task.blocked;
      task.blocked &= ~wanted;
      if (task.has_signal()) task.call_in();
    }
    const Sleeper::Outcome outcome = task.sleeper.sleep(deadline);
    unswap_mask(task);
    if (!take()) {
      if (outcome == Sleeper::Outcome::kTimedOut) return Errno(EAGAIN);
      return Errno(kRestartNoHand);
    }
    std::lock_guard lock(task.kernel.lock);
    if (!task.has_signal()) task.sleeper.clear_interrupt();
  }
  if (a[1] != 0) GUEST_TRY(task.put(a[1], *info));
  return static_cast<uint64_t>(info->signo);
}

ErrnoOr<uint64_t> sys_kill(Task& task, Arguments a) {
  const int32_t to = as_int(a[0]);
  const int signal = as_int(a[1]);
  if (signal < 0 || signal > kSignals) return Errno(EINVAL);
  Kernel& kernel = task.kernel;
  std::lock_guard lock(kernel.lock);
  if (to > 0) {
    const int32_t id = task.meant(to);
    ProcessPtr process = kernel.find_process(id);
    if (const auto thread = kernel.tasks.find(id); !process && thread != kernel.tasks.end())
      process = thread->second->process;
    if (!process) return Errno(ESRCH);
    GUEST_TRY(kernel.may_signal(task, *process, signal));
    if (signal != 0) kernel.send(*process, signal_from(task, *process, signal, SI_USER));
    return uint64_t{0};
  }
  if (to == INT32_MIN) return Errno(ESRCH);
  const int32_t group = to == 0 ? task.process->group : task.meant(-to);
  if (group == 0) return Errno(ESRCH);
  bool any = false;
  bool allowed = false;
  for (const auto& [pid, process] : std::map(kernel.processes)) {
    // Everyone is who can be seen, but for the namespace's init and who asks.
    if (to == -1 ? task.shown(pid) <= 1 || process == task.process : process->group != group)
      continue;
    any = true;
    if (!kernel.may_signal(task, *process, signal).ok()) continue;
    allowed = true;
    if (signal != 0) kernel.send(*process, signal_from(task, *process, signal, SI_USER));
  }
  if (!any) return Errno(ESRCH);
  if (!allowed) return Errno(EPERM);
  return uint64_t{0};
}

ErrnoOr<uint64_t> sys_tkill(Task& task, Arguments a) {
  return send_to_thread(task, 0, as_int(a[0]), as_int(a[1]), SI_TKILL);
}
ErrnoOr<uint64_t> sys_tgkill(Task& task, Arguments a) {
  if (as_int(a[0]) <= 0) return Errno(EINVAL);
  return send_to_thread(task, as_int(a[0]), as_int(a[1]), as_int(a[2]), SI_TKILL);
}

ErrnoOr<uint64_t> sys_rt_sigqueueinfo(Task& task, Arguments a) {
  const int signal = as_int(a[1]);
  SignalInfo info = GUEST_TRY(task.get<SignalInfo>(a[2]));
  if (signal < 0 || signal > kSignals) return Errno(EINVAL);
  if ((info.code >= 0 || info.code == SI_TKILL) && as_int(a[0]) != task.process->number)
    return Errno(EPERM);
  info.signo = signal;
  std::lock_guard lock(task.kernel.lock);
  const ProcessPtr process = task.kernel.find_process(task.meant(as_int(a[0])));
  if (!process) return Errno(ESRCH);
  GUEST_TRY(task.kernel.may_signal(task, *process, signal));
  if (process->pids->number_of(task.process->pid) == 0) info.set_sender(0, task.credentials.uid);
  GUEST_TRY(task.kernel.may_queue(*process, info));
  if (signal != 0) task.kernel.send(*process, info);
  return uint64_t{0};
}

ErrnoOr<uint64_t> sys_rt_tgsigqueueinfo(Task& task, Arguments a) {
  const int signal = as_int(a[2]);
  SignalInfo info = GUEST_TRY(task.get<SignalInfo>(a[3]));
  if (as_int(a[0]) <= 0 || as_int(a[1]) <= 0 || signal < 0 || signal > kSignals)
    return Errno(EINVAL);
  if ((info.code >= 0 || info.code == SI_TKILL) && as_int(a[0]) != task.process->number)
    return Errno(EPERM);
  info.signo = signal;
  std::lock_guard lock(task.kernel.lock);
  const auto found = task.kernel.tasks.find(task.meant(as_int(a[1])));
  if (found == task.kernel.tasks.end() || found->second->process->pid != task.meant(as_int(a[0])))
    return Errno(ESRCH);
  GUEST_TRY(task.kernel.may_signal(task, *found->second->process, signal));
  GUEST_TRY(task.kernel.may_queue(*found->second->process, info));
  if (signal != 0) task.kernel.send_to(*found->second, info);
  return uint64_t{0};
}

ErrnoOr<uint64_t> sys_sigaltstack(Task& task, Arguments a) {
  uint64_t sp = 0;
  if (task.alternate.size != 0) {
    const Registers* registers = task.registers();
    if (registers == nullptr) return Errno(ESRCH);
    sp = registers->rsp;
  }
  SignalStack before = task.alternate;
  before.flags = task.alternate_flags(sp);
  if (a[0] != 0) {
    const SignalStack wanted = GUEST_TRY(task.get<SignalStack>(a[0]));
    GUEST_TRY(task.set_alternate(wanted, sp));
  }
  if (a[1] != 0) GUEST_TRY(task.put(a[1], before));
  return uint64_t{0};
}

}  // namespace fluyt::guest
