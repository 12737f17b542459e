#include "guest/task/task.h"

#include <signal.h>
#include <sys/wait.h>

#include <algorithm>
#include <cstring>

#include "guest/platform/host/io.h"

namespace fluyt::guest {
namespace {

constexpr uint64_t kFrameRedZone = 128;
constexpr int kOnStackFlag = 1;         // SS_ONSTACK
constexpr int kDisableFlag = 2;         // SS_DISABLE
constexpr int kAutoDisarm = INT32_MIN;  // SS_AUTODISARM
thread_local Task* current_task = nullptr;
constexpr uint64_t kTrapFlags = 0x100 | 0x400 | 0x10000;  // TF, DF, RF

}  // namespace

Task::Task(Kernel& of, ProcessPtr in, int32_t id, int32_t own_number, ContainerPtr born_in)
    : kernel(of),
      container(born_in ? std::move(born_in) : of.container),
      process(std::move(in)),
      tid(id),
      number(own_number),
      mounts(container->mounts ? container->mounts : of.mounts) {}
Task::~Task() {
  mounts.reset();
  kernel.tree->sweep();
}

ErrnoOr<std::string> Task::get_string(uint64_t address, size_t limit) {
  std::string out;
  while (out.size() < limit) {
    // Up to the end of a page, so that the page behind need not exist.
    char buffer[512];
    const size_t step =
        std::min<size_t>({sizeof buffer, kPageSize - (address % kPageSize), limit - out.size()});
    const size_t got = mm->space().read(address, std::as_writable_bytes(std::span(buffer, step)));
    if (got == 0) return Errno(EFAULT);
    const void* zero = std::memchr(buffer, 0, got);
    if (zero != nullptr) {
      out.append(buffer, static_cast<size_t>(static_cast<const char*>(zero) - buffer));
      return out;
    }
    out.append(buffer, got);
    address += got;
    if (got < step) return Errno(EFAULT);
  }
  return Errno(ENAMETOOLONG);
}

WalkFrom Task::walk_from(DentryPtr base) {
  std::lock_guard guard(fs->lock);
  return {fs->root, base ? std::move(base) : fs->cwd, credentials};
}

void Task::call_in() {
  work_.store(true);
  sleeper.interrupt();
  if (in_guest_.load() && context) context->interrupt();
}

bool Task::has_signal() const {
  return process->exiting || (process->executing != nullptr && process->executing != this) ||
         ((pending.set() | process->pending.set()) & ~blocked) != 0 || process->stopped;
}

bool Task::would_take_signal() const {
  if (!work_.load()) return false;
  std::lock_guard guard(kernel.lock);
  return has_signal();
}

bool Task::is_ending() const {
  if (!work_.load()) return false;
  std::lock_guard guard(kernel.lock);
  return process->exiting || (process->executing != nullptr && process->executing != this);
}

Registers* Task::registers() {
  if (!go_out()) return nullptr;
  Registers* const out = context->registers();
  come_in();
  return out;
}

ErrnoOr<ThreadImage> Task::image() {
  const Registers* registers = this->registers();
  if (registers == nullptr) return Errno(ESRCH);
  ThreadImage out;
  out.registers = *registers;
  const std::span<std::byte> fp = context->fp_state();
  out.fp.assign(fp.begin(), fp.end());
  out.fs_base = context->fs_base();
  out.gs_base = context->gs_base();
  out.rseq = context->rseq();
  return out;
}

uint32_t Task::kernel_uid(uint32_t inside) const {
  return credentials.user ? credentials.user->kernel_uid(inside)
                          : kernel.ids(UserSpace::kUsers).down(inside);
}
uint32_t Task::kernel_gid(uint32_t inside) const {
  return credentials.user ? credentials.user->kernel_gid(inside)
                          : kernel.ids(UserSpace::kGroups).down(inside);
}

SystemNames& Task::names() const { return uts ? *uts : kernel.names; }
SysV& Task::sysv() const { return ipc ? *ipc : kernel.sysv; }

void Task::replace_files(std::shared_ptr<FdTable> own) {
  {
    std::lock_guard guard(kernel.lock);
    files.swap(own);
  }
  own.reset();  // the last of them closes its files, without the lock
}

Task* Task::current() { return current_task; }

void Task::run(TaskPtr self) {
  // One that could not be given a thread leaves in its maker's.
  Task* const before = std::exchange(current_task, self.get());
  self->begin_usage();
  self->loop();
  self->leave();
  current_task = before;
}

void Task::loop() {
  while (!ending) {
    // A signal that comes after this finds the thread outside and calls it in.
    const bool is_out = go_out();
    if (!is_out || work_.load()) {
      if (is_out) come_in();
      take_signals();
      continue;
    }
    const Event event = context->run();
    come_in();
    switch (event.kind) {
      case Event::Kind::kSyscall:
        serve(event.call);
        break;
      case Event::Kind::kInterrupt:
        work_.store(true);
        break;
      case Event::Kind::kFault: {
        std::lock_guard guard(kernel.lock);
        const SignalSet bit = signal_bit(event.fault.signo);
        SignalAction& action = process->actions->of[static_cast<size_t>(event.fault.signo)];
        // A fault that is blocked or ignored kills all the same.
        if ((blocked & bit) != 0 || action.handler == 1) {
          action = {};
          blocked &= ~bit;
        }
        pending.add(event.fault);
        work_.store(true);
        break;
      }
      case Event::Kind::kGone: {
        // Killed by the host: out of memory, or a fault within a fault.
        std::lock_guard guard(kernel.lock);
        kernel.end_process(*process, SIGKILL);
        ending = Ending{true, process->exit_status};
        break;
      }
    }
  }
}

bool Task::go_out() {
  for (;;) {
    in_guest_.store(true);
    if (!container->paused.load()) return true;
    come_in();
    if (!stay_paused()) return false;
  }
}

void Task::come_in() {
  in_guest_.store(false);
  if (container->paused.load()) kernel.came_in_.wake_all();
}

/// False: only the end of its process gets a thread out of it before the container goes on.
bool Task::stay_paused() {
  WaitQueue::Entry entry(kernel.resumed_, sleeper);
  while (container->paused.load()) {
    {
      std::lock_guard guard(kernel.lock);
      if (process->exiting) return false;
    }
    // What interrupts has set work_ too, which is looked at afterwards.
    if (sleeper.sleep({}) == Sleeper::Outcome::kInterrupted) sleeper.clear_interrupt();
  }
  return true;
}

void Task::serve(const SyscallRequest& call) {
  last_call = call.number;
  restart_ = 0;
  if ((strict || filter.load() != nullptr) && !passes_filter(call)) return;
  ErrnoOr<uint64_t> result = kernel.dispatch(*this, call);
  if (ending) return;
  if (result.ok()) {
    if (result.value() != kCarriedOut) context->set_return(result.value());
    return;
  }
  const int error = result.error().value();
  if (error >= kRestartSys) {
    restart_ = error;
    context->set_return(static_cast<uint64_t>(-EINTR));
    work_.store(true);
    return;
  }
  context->set_return(static_cast<uint64_t>(-static_cast<int64_t>(error)));
}

void Task::stop_here(std::unique_lock<std::mutex>& lock) {
  while (process->stopped && !process->exiting && process->executing == nullptr) {
    lock.unlock();
    {
      WaitQueue::Entry entry(process->threads_changed, sleeper);
      bool still = false;
      {
        std::lock_guard guard(kernel.lock);
        still = process->stopped && !process->exiting;
      }
      if (still) sleeper.sleep_deeply({});
    }
    lock.lock();
  }
}

void Task::take_signals() {
  work_.store(false);
  sleeper.clear_interrupt();
  bool restart_decided = restart_ == 0;
  for (;;) {
    std::unique_lock lock(kernel.lock);
    if (process->exiting || (process->executing != nullptr && process->executing != this)) {
      ending = Ending{process->exiting, process->exit_status};
      return;
    }
    if (process->stopped) {
      stop_here(lock);
      continue;
    }
    lock.unlock();
    if (!take_one_signal(restart_decided)) break;
    if (ending) return;
  }
  if (!restart_decided) {
    // Nothing was delivered to a handler: the call is made again.
    Registers* registers = this->registers();
    if (registers != nullptr) {
      registers->rip -= 2;
      registers->rax = static_cast<uint64_t>(last_call);
    }
  }
  restart_ = 0;
  std::lock_guard lock(kernel.lock);
  if (restore_blocked) {
    blocked = *restore_blocked;
    restore_blocked.reset();
    if (has_signal()) work_.store(true);
  }
}

/// Takes the next signal, if there is one. False: there is none, or a handler is about to run.
bool Task::take_one_signal(bool& restart_decided) {
  std::unique_lock lock(kernel.lock);
  std::optional<SignalInfo> info = pending.take(blocked);
  if (!info) info = process->pending.take(blocked);
  if (!info) return false;
  const int signal = info->signo;
  SignalAction& slot = process->actions->of[static_cast<size_t>(signal)];
  const SignalAction action = slot;
  if (action.handler == 1) return true;
  if (action.handler == 0) {
    switch (default_action(signal)) {
      case DefaultAction::kIgnore:
      case DefaultAction::kContinue:
        return true;
      case DefaultAction::kStop: {
        if (process->is_init() && process->pids->init_is_spared && signal != SIGSTOP) return true;
        // Nobody could continue an orphaned group that its terminal stops.
        if (signal != SIGSTOP && kernel.is_orphaned(process->group, nullptr)) return true;
        process->stopped = true;
        process->stop_reported = false;
        process->stop_signal = signal;
        for (Task* other : process->threads)
          if (other != this) other->call_in();
        kernel.notify_parent(*process, CLD_STOPPED, signal);
        stop_here(lock);
        return true;
      }
      case DefaultAction::kTerminate:
      case DefaultAction::kCore: {
        if (process->is_init() && process->pids->init_is_spared && info->code <= 0) return true;
        kernel.end_process(*process, signal);
        ending = Ending{true, process->exit_status};
        return true;
      }
    }
  }
  const SignalSet old_mask = restore_blocked.value_or(blocked);
  restore_blocked.reset();
  lock.unlock();

  Registers* registers = this->registers();
  if (registers == nullptr) {
    force(SIGKILL, SI_KERNEL, 0);
    return true;
  }
  if (!restart_decided) {
    restart_decided = true;
    if (restart_ == kRestartNoIntr ||
        (restart_ == kRestartSys && (action.flags & SA_RESTART) != 0)) {
      registers->rip -= 2;
      registers->rax = static_cast<uint64_t>(last_call);
    } else {
      registers->rax = static_cast<uint64_t>(-EINTR);
    }
  }
  if (!push_frame(*info, action, *registers, old_mask).ok()) {
    force(SIGSEGV, SI_KERNEL, 0);
    return true;
  }
  lock.lock();
  if ((action.flags & SA_RESETHAND) != 0) slot.handler = 0;
  blocked |= action.mask;
  if ((action.flags & SA_NODEFER) == 0) blocked |= signal_bit(signal);
  blocked &= ~(signal_bit(SIGKILL) | signal_bit(SIGSTOP));
  // Others that are ready nest at once, as on Linux.
  return true;
}

namespace {
bool lies_in(const SignalStack& stack, uint64_t sp) {
  return sp > stack.sp && sp - stack.sp <= stack.size;
}
}  // namespace

int Task::alternate_flags(uint64_t sp) const {
  const int kept = alternate.flags & kAutoDisarm;
  if (alternate.size == 0) return kept | kDisableFlag;
  // What is disarmed at its first use is nobody's to be on.
  return kept | (kept == 0 && lies_in(alternate, sp) ? kOnStackFlag : 0);
}

Errno Task::set_alternate(const SignalStack& wanted, uint64_t sp) {
  constexpr uint64_t kMinimum = 2048;
  if ((alternate_flags(sp) & kOnStackFlag) != 0) return Errno(EPERM);
  const int mode = wanted.flags & ~kAutoDisarm;
  if (mode != 0 && mode != kDisableFlag && mode != kOnStackFlag) return Errno(EINVAL);
  if (mode != kDisableFlag && wanted.size < kMinimum) return Errno(ENOMEM);
  alternate = wanted;
  if (mode == kDisableFlag) alternate.sp = alternate.size = 0;
  return kOk;
}

Errno Task::push_frame(const SignalInfo& info, const SignalAction& action, Registers& registers,
                       SignalSet old_mask) {
  if (action.restorer == 0) return Errno(EFAULT);
  const std::span<const std::byte> fp = context->fp_state();
  uint64_t sp = registers.rsp;
  const int shown = alternate_flags(sp);
  const bool enters = (action.flags & SA_ONSTACK) != 0 && (shown & ~kAutoDisarm) == 0;
  const bool on_alternate = enters || (shown & kOnStackFlag) != 0;
  sp = enters ? alternate.sp + alternate.size : sp - kFrameRedZone;
  SignalFrame frame;
  frame.return_address = action.restorer;
  frame.context.flags = kContextFlags;
  if (!fp.empty()) {
    sp = (sp - fp.size()) & ~uint64_t{63};
    frame.context.flags |= kContextFpXstate;
    frame.context.fp_state = sp;
  }
  sp = ((sp - sizeof frame) & ~uint64_t{15}) - 8;
  // What does not fit is not written below it, into whatever lies there.
  if (on_alternate && !lies_in(alternate, sp)) return Errno(EFAULT);
  if (!fp.empty()) GUEST_TRY(copy_out(frame.context.fp_state, fp));
  frame.context.stack = alternate;
  frame.context.registers = registers;
  frame.context.signal_mask = old_mask;
  frame.info = info;
  GUEST_TRY(put(sp, frame));
  if ((alternate.flags & kAutoDisarm) != 0) alternate = {0, kDisableFlag, 0, 0};
  registers.rip = action.handler;
  registers.rsp = sp;
  registers.rdi = static_cast<uint64_t>(info.signo);
  registers.rsi = sp + offsetof(SignalFrame, info);
  registers.rdx = sp + offsetof(SignalFrame, context);
  registers.rax = 0;
  registers.rflags &= ~kTrapFlags;
  registers.cs = 0x33;
  registers.ss = 0x2b;
  return kOk;
}

MemoryCharge Task::memory_charge() const { return {kernel.shared_memory, container->descriptors}; }

Errno Task::return_from_signal() {
  Registers* registers = this->registers();
  if (registers == nullptr) return Errno(ESRCH);
  const SignalFrame frame = GUEST_TRY(get<SignalFrame>(registers->rsp - 8));
  std::vector<std::byte> fp;
  if (frame.context.fp_state != 0) {
    // As long as the frame says, within what the processor can have.
    fp.resize(kFpLegacySize);
    GUEST_TRY(copy_in(frame.context.fp_state, fp));
    uint32_t software[2];
    std::memcpy(software, fp.data() + kFpSoftwareOffset, sizeof software);
    constexpr size_t kMaxFp = 32768;
    if (software[0] == kFpMagic1 && software[1] > kFpLegacySize && software[1] <= kMaxFp) {
      fp.resize(software[1]);
      GUEST_TRY(copy_in(frame.context.fp_state, fp));
    }
  }
  GUEST_TRY(context->set_fp_state(fp));
  const uint16_t cs = registers->cs;
  *registers = frame.context.registers;
  registers->cs = cs;
  registers->ss = 0x2b;
  registers->gs = registers->fs = 0;
  std::lock_guard guard(kernel.lock);
  blocked = frame.context.signal_mask & ~(signal_bit(SIGKILL) | signal_bit(SIGSTOP));
  // What cannot be set is not: the program goes on with the one that there is.
  (void)set_alternate(frame.context.stack, registers->rsp).ok();
  if (has_signal()) work_.store(true);
  return kOk;
}

std::vector<uint64_t> all_processors(unsigned count) {
  std::vector<uint64_t> out((count + 63) / 64);
  for (unsigned i = 0; i < count; ++i) out[i / 64] |= uint64_t{1} << (i % 64);
  return out;
}

std::vector<uint64_t> Task::processors() const {
  std::vector<uint64_t> all = all_processors(container->processors());
  std::vector<uint64_t> own = schedule.allowed;
  own.resize(all.size());
  bool any = false;
  for (size_t i = 0; i < all.size(); ++i) any |= (own[i] &= all[i]) != 0;
  // Its container may have lost those.
  return any ? own : all;
}

void Task::force(int signal, int code, uint64_t address) {
  std::lock_guard guard(kernel.lock);
  if (signal == SIGKILL) {
    kernel.end_process(*process, SIGKILL);
    return;
  }
  SignalAction& action = process->actions->of[static_cast<size_t>(signal)];
  const SignalSet bit = signal_bit(signal);
  action = {};
  blocked &= ~bit;
  SignalInfo info = make_signal(signal, code);
  info.payload[0] = address;
  pending.add(info);
  call_in();
}

void Task::force(const SignalInfo& info) {
  std::lock_guard guard(kernel.lock);
  SignalAction& action = process->actions->of[static_cast<size_t>(info.signo)];
  const SignalSet bit = signal_bit(info.signo);
  if ((blocked & bit) != 0 || action.handler == 1) {
    action = {};
    blocked &= ~bit;
  }
  pending.add(info);
  call_in();
}

/// False: the call is not made, and what happens in its place is done.
bool Task::passes_filter(const SyscallRequest& call) {
  uint32_t answer = kFilterAllow;
  if (strict) {
    const bool known = call.native && (call.number == 0 || call.number == 1 || call.number == 60 ||
                                       call.number == 15);
    if (known) return true;
    // Strict mode has a signal of its own.
    std::lock_guard guard(kernel.lock);
    kernel.end_process(*process, SIGKILL);
    ending = Ending{true, process->exit_status};
    return false;
  }
  answer = filter.load()->check(filter_input(call));
  const uint32_t data = answer & ~kFilterActionMask;
  switch (answer & kFilterActionMask) {
    case kFilterAllow:
    case kFilterLog:
      return true;
    case kFilterErrno:
      context->set_return(static_cast<uint64_t>(-int64_t{std::min<uint32_t>(data, 4095)}));
      return false;
    case kFilterTrace:   // nobody traces
    case kFilterNotify:  // nobody listens
      context->set_return(static_cast<uint64_t>(-ENOSYS));
      return false;
    case kFilterTrap: {
      SignalInfo info = make_signal(SIGSYS, 1 /* SYS_SECCOMP */);
      info.error = static_cast<int32_t>(data);
      info.payload[0] = call.instruction_pointer;
      info.payload[1] = static_cast<uint32_t>(call.number) | uint64_t{call.arch} << 32;
      context->set_return(static_cast<uint64_t>(int64_t{call.number}));
      force(info);
      return false;
    }
    default: {
      std::lock_guard guard(kernel.lock);
      if ((answer & kFilterActionMask) == kFilterKillThread && process->threads.size() > 1) {
        ending = Ending{false, SIGSYS};
        return false;
      }
      kernel.end_process(*process, SIGSYS);
      ending = Ending{true, process->exit_status};
      return false;
    }
  }
}

void Task::give_up_robust_futexes() {
  if (robust_list == 0) return;
  constexpr int kMaxEntries = 2048;
  struct Head {
    uint64_t next;
    int64_t offset;
    uint64_t pending;
  };
  const ErrnoOr<Head> head = get<Head>(robust_list);
  if (!head.ok()) return;
  const auto give_up = [&](uint64_t entry) {
    const uint64_t address = (entry & ~uint64_t{1}) + static_cast<uint64_t>(head.value().offset);
    const ErrnoOr<uint32_t> word = get<uint32_t>(address);
    if (!word.ok() || (word.value() & Futexes::kTidMask) != static_cast<uint32_t>(number)) return;
    const uint32_t waited_for = word.value() & Futexes::kHasWaiters;
    if (!put(address, waited_for | Futexes::kOwnerDied).ok()) return;
    // Of a lock with priority inheritance, which the lowest bit tells, leave_locks wakes the next.
    if (waited_for != 0 && (entry & 1) == 0) wake_futex(address);
  };
  uint64_t at = head.value().next;
  for (int i = 0; i < kMaxEntries && (at & ~uint64_t{1}) != robust_list; ++i) {
    const ErrnoOr<uint64_t> next = get<uint64_t>(at & ~uint64_t{1});
    if (at != head.value().pending) give_up(at);
    if (!next.ok()) break;
    at = next.value();
  }
  if (head.value().pending != 0) give_up(head.value().pending);
}

/// Whichever way it is waited for.
void Task::wake_futex(uint64_t address) {
  (void)kernel.futexes.wake(mm->place_of(address), 1, ~0U).ok();
  (void)kernel.futexes.wake(Futexes::private_place(*mm, address), 1, ~0U).ok();
}

void Task::give_up_futexes() {
  give_up_robust_futexes();
  kernel.futexes.leave_locks(tid);
}

void Task::leave() {
  bool thread_alone = false;
  {
    std::lock_guard guard(kernel.lock);
    leaving = true;
    thread_alone = !process->exiting && !(ending && ending->whole_group);
  }
  give_up_futexes();
  // Who joins gives the memory away, and the thread is used again.
  if (thread_alone && context && mm.use_count() > 1 && go_out()) {
    context->drop_rseq();
    come_in();
  }
  if (clear_child_tid != 0 && mm.use_count() > 1) {
    // Whoever waits there is woken whether it could be written or not.
    put(clear_child_tid, uint32_t{0}).ignore("nobody is left to be told");
    wake_futex(clear_child_tid);
  }
  // Files and memory go before anyone hears of the end, so that a pipe's reader sees its end first.
  std::shared_ptr<FdTable> own_files;
  std::shared_ptr<FsContext> own_fs;
  {
    std::lock_guard guard(kernel.lock);
    own_files = std::move(files);
    own_fs = std::move(fs);
  }
  own_files.reset();
  own_fs.reset();
  std::unique_ptr<Context> last;
  std::shared_ptr<Mm> memory;
  {
    std::lock_guard guard(kernel.lock);
    last = std::move(context);
    memory = std::move(mm);
    process->system_before_ns += system_ns();
    sentry_clock_ = 0;
    const bool others = std::any_of(process->threads.begin(), process->threads.end(),
                                    [](const Task* task) { return task->mm != nullptr; });
    if (!others && memory) process->end_image(*memory);
  }
  if (last && memory.use_count() > 1) last->finish();
  last.reset();
  memory.reset();

  Kernel& of = kernel;
  of.empty_namespace(*this);
  {
    std::lock_guard guard(of.lock);
    if (ending && ending->whole_group) of.end_process(*process, ending->status);
    process->uid_at_end = credentials.uid;
    std::erase(process->threads, this);
    if (auto found = of.tasks.find(tid); found != of.tasks.end() && found->second == this)
      of.tasks.erase(found);
    if (tid != process->pid) of.release_id(tid, process->pids);
    if (process->threads.empty()) {
      if (!process->exiting) process->exit_status = ending ? ending->status : 0;
      of.reap_process(*process);
    }
    process->threads_changed.wake_all();
    --of.live_;
    --container->tasks;
    of.ended_.wake_all();
  }
}

int32_t Task::process_group() {
  std::lock_guard guard(kernel.lock);
  return process->group;
}
int32_t Task::session() {
  std::lock_guard guard(kernel.lock);
  return process->session;
}
bool Task::leads_session() {
  std::lock_guard guard(kernel.lock);
  return process->session == process->pid;
}
Errno Task::find_group(int32_t group) {
  std::lock_guard guard(kernel.lock);
  for (const auto& [pid, other] : kernel.processes)
    if (other->group == group) return other->session == process->session ? kOk : Errno(EPERM);
  return Errno(ESRCH);
}
void Task::signal_group(int32_t group, int signal) {
  std::lock_guard guard(kernel.lock);
  kernel.send_to_group(group, make_signal(signal, SI_KERNEL));
}
bool Task::ignores(int signal) {
  std::lock_guard guard(kernel.lock);
  return (blocked & signal_bit(signal)) != 0 ||
         process->actions->of[static_cast<size_t>(signal)].handler == 1;
}
bool Task::is_orphaned() {
  std::lock_guard guard(kernel.lock);
  return kernel.is_orphaned(process->group, nullptr);
}
std::shared_ptr<Terminal> Task::terminal() {
  std::lock_guard guard(kernel.lock);
  return process->terminal;
}
void Task::take_terminal(const std::shared_ptr<Terminal>& terminal) {
  std::lock_guard guard(kernel.lock);
  std::lock_guard theirs(terminal->mutex);
  terminal->session = process->session;
  terminal->foreground = process->group;
  process->terminal = terminal;
}
void Task::give_up_terminal() {
  std::lock_guard guard(kernel.lock);
  if (process->session == process->pid)
    kernel.leave_terminal(*process, false);
  else
    process->terminal.reset();
}
void Task::release_terminal(int32_t session) {
  std::lock_guard guard(kernel.lock);
  kernel.release_terminal_locked(session);
}

}  // namespace fluyt::guest
