#include <signal.h>
#include <sys/resource.h>
#include <sys/wait.h>

#include <algorithm>
#include <utility>

#include "guest/platform/host/io.h"
#include "guest/task/task.h"

namespace fluyt::guest {

namespace {

/// A guest thread's, as its limits and capabilities are; of nobody's the usual.
QueueRoom queue_room_of_caller() {
  const Task* task = Task::current();
  if (task == nullptr) return {};
  std::lock_guard lock(task->kernel.lock);
  return {task->process->limits[RLIMIT_MSGQUEUE].soft, task->credentials.can(kCapSysResource)};
}

}  // namespace

SignalInfo make_signal(int signal, int code, int32_t pid, uint32_t uid) {
  SignalInfo info;
  info.signo = signal;
  info.code = code;
  info.set_sender(pid, uid);
  return info;
}

SignalInfo signal_from(const Task& from, const Process& to, int signal, int code) {
  const uint32_t uid = from.credentials.uid;
  return make_signal(signal, code, to.pids->number_of(from.process->pid),
                     to.threads.empty() ? uid : to.threads.front()->credentials.shown_uid(uid));
}

bool may_look_into(const Task& asks, const Task& other, LookBy by) {
  if (asks.process == other.process) return true;
  const Credentials& own = asks.credentials;
  const Credentials& its = other.credentials;
  const bool may_all = own.can_in(kCapSysPtrace, its.user.get());
  const uint32_t uid = by == LookBy::kFileIds ? own.fsuid : own.uid;
  const uint32_t gid = by == LookBy::kFileIds ? own.fsgid : own.gid;
  if (!may_all && (uid != its.uid || uid != its.euid || uid != its.suid || gid != its.gid ||
                   gid != its.egid || gid != its.sgid))
    return false;
  // What it has in memory is from where it was executed, whichever namespace it has entered since.
  const Process& process = *other.process;
  if (!process.dumpable && !own.can_in(kCapSysPtrace, process.executed_in.get())) return false;
  if (may_all) return true;
  const uint64_t capabilities = by == LookBy::kFileIds ? own.effective : own.permitted;
  return own.user == its.user && (its.permitted & ~capabilities) == 0;
}

uint32_t Process::uid() const {
  return threads.empty() ? uid_at_end : threads.front()->credentials.uid;
}

Kernel::Kernel(Platform& runs_on, std::shared_ptr<Tree> files, Dispatch calls)
    : platform(runs_on),
      tree(std::move(files)),
      dispatch(calls),
      mounts(std::make_shared<MountSpace>(tree, tree->root(), kFirstMounts)),
      container(std::make_shared<Container>(platform)) {
  booted_ns = host::clock_ns(7 /* CLOCK_BOOTTIME */);
  const std::string all = "         0          0 4294967295\n";
  set_id_maps(all, all);
  sysv.posix_queues =
      std::make_shared<MessageQueues>(shared_memory, queue_bytes, queue_room_of_caller);
  platform.on_loss([this](int64_t id) {
    std::lock_guard guard(lock);
    for (const auto& [tid, task] : tasks)
      if (task->mm && task->mm->space().id() == id) end_process(*task->process, SIGKILL);
  });
}

Kernel::~Kernel() {
  platform.on_loss({});
  timers.stop();
}

void Kernel::set_id_maps(const std::string& of_users, const std::string& of_groups) {
  id_map_texts_ = {of_users, of_groups};
  for (const UserSpace::Kind kind : {UserSpace::kUsers, UserSpace::kGroups}) {
    // Ours are those that programs of the first namespace see: what they are further out is the
    // host's business.
    std::vector<IdMap::Extent> own;
    if (const ErrnoOr<IdMap> map = IdMap::parse(id_map_texts_[kind]); map.ok())
      own = map.value().extents();
    for (IdMap::Extent& one : own) one.outside = one.inside;
    first_ids_[kind] = IdMap(std::move(own));
  }
}

template <class Space, class Make>
ErrnoOr<std::shared_ptr<Space>> Kernel::make_space(const Count& count, Make make) {
  if (count->fetch_add(1) >= kMaxNamespaces) {
    --*count;
    return Errno(ENOSPC);
  }
  return std::shared_ptr<Space>(make(), [count](Space* gone) {
    delete gone;
    --*count;
  });
}

ErrnoOr<std::shared_ptr<SystemNames>> Kernel::new_names(const SystemNames& like, UserSpacePtr of) {
  return make_space<SystemNames>(name_spaces_, [&] {
    auto* made = new SystemNames(like);
    made->inode_number = next_namespace();
    made->user = std::move(of);
    return made;
  });
}

ErrnoOr<std::shared_ptr<SysV>> Kernel::new_sysv(UserSpacePtr of) {
  return make_space<SysV>(ipc_spaces_, [&] {
    auto* made = new SysV;
    made->inode_number = next_namespace();
    made->user = std::move(of);
    made->posix_queues =
        std::make_shared<MessageQueues>(shared_memory, queue_bytes, queue_room_of_caller);
    return made;
  });
}

ErrnoOr<std::shared_ptr<CgroupSpace>> Kernel::new_cgroups(UserSpacePtr of) {
  return make_space<CgroupSpace>(cgroup_spaces_,
                                 [&] { return new CgroupSpace{next_namespace(), std::move(of)}; });
}

ErrnoOr<PidSpacePtr> Kernel::new_pids(const PidSpacePtr& above, UserSpacePtr of) {
  if (above->depth == PidSpace::kDeepest) return Errno(ENOSPC);
  return make_space<PidSpace>(pid_spaces_,
                              [&] { return new PidSpace(above, next_namespace(), std::move(of)); });
}

ErrnoOr<std::shared_ptr<MountSpace>> Kernel::new_mounts(DentryPtr root, UserSpacePtr of) {
  auto made = make_space<MountSpace>(
      mount_spaces_, [&] { return new MountSpace(tree, root, next_namespace(), std::move(of)); });
  if (!made.ok()) tree->drop(std::move(root));
  return made;
}

ErrnoOr<UserSpacePtr> Kernel::new_users(const Credentials& maker) {
  if (maker.user && maker.user->depth == UserSpace::kDeepest) return Errno(ENOSPC);
  const bool has_ids = !maker.user || (maker.user->uid_of(maker.euid) != kNoId &&
                                       maker.user->gid_of(maker.egid) != kNoId);
  ErrnoOr<UserSpacePtr> made = make_space<UserSpace>(user_spaces_, [&] {
    return new UserSpace(maker.user, next_namespace(), maker.euid, maker.egid,
                         maker.has(kCapSetfcap));
  });
  if (made.ok() && !has_ids) return Errno(EPERM);
  return made;
}

ErrnoOr<Kernel::NewId> Kernel::new_id(PidSpace& in, const Container& of) {
  constexpr int32_t kMaxId = 4194304;
  const auto coming = static_cast<size_t>(std::count_if(
      reserved.begin(), reserved.end(), [&](const auto& one) { return one.second == &of; }));
  if (of.has_ended || of.tasks + coming >= of.max_tasks) return Errno(EAGAIN);
  if (in.has_ended) return Errno(ENOMEM);
  for (int tries = 0; tries < kMaxId; ++tries) {
    last_id_ = last_id_ + 1 >= kMaxId ? 300 : last_id_ + 1;
    if (tasks.contains(last_id_) || reserved.contains(last_id_) || processes.contains(last_id_) ||
        numbered_.contains(last_id_))
      continue;
    const bool is_group = std::any_of(processes.begin(), processes.end(), [&](const auto& entry) {
      return entry.second->group == last_id_ || entry.second->session == last_id_;
    });
    if (is_group) continue;
    NewId out{last_id_, last_id_};
    if (in.above) numbered_.insert(last_id_);
    for (PidSpace* at = &in; at->above; at = at->above.get()) {
      const ErrnoOr<int32_t> number = at->admit(last_id_);
      if (!number.ok()) {
        for (PidSpace* done = &in; done->above; done = done->above.get()) done->forget(last_id_);
        numbered_.erase(last_id_);
        return number.error();
      }
      if (at == &in) out.number = number.value();
    }
    if (out.number == 1) in.init = out.id;
    return out;
  }
  return Errno(EAGAIN);
}

void Kernel::release_id(int32_t id, const PidSpacePtr& in) {
  if (!in->above || !numbered_.contains(id)) return;
  // In a namespace that has ended there is nobody left to name it to.
  PidSpacePtr asked_by = in;
  for (; asked_by->above && asked_by->has_ended; asked_by = asked_by->above) asked_by->forget(id);
  if (!asked_by->above) {
    numbered_.erase(id);
    return;
  }
  // Who has ended is still named for a while: as the maker of shared memory, by its sockets.
  constexpr size_t kRemembered = 1024;
  released_.emplace_back(id, std::move(asked_by));
  for (size_t looks = 0; released_.size() > kRemembered && looks < 4; ++looks) {
    const auto [old, of] = std::move(released_.front());
    released_.pop_front();
    if (!numbered_.contains(old)) continue;
    const bool is_used = tasks.contains(old) || reserved.contains(old) || processes.contains(old) ||
                         std::any_of(processes.begin(), processes.end(), [&](const auto& entry) {
                           return entry.second->group == old || entry.second->session == old;
                         });
    // Whoever uses it last releases it again.
    if (is_used) continue;
    for (PidSpace* at = of.get(); at->above; at = at->above.get()) at->forget(old);
    numbered_.erase(old);
  }
}

void Kernel::erase_process(Process& process) {
  const ProcessPtr held = find_process(process.pid);
  processes.erase(process.pid);
  for (const int32_t id : {process.pid, process.group, process.session})
    release_id(id, process.pids);
}

ProcessPtr Kernel::find_process(int32_t id) const {
  const auto found = processes.find(id);
  return found == processes.end() ? nullptr : found->second;
}

void Kernel::wake_for(Process& process, const SignalInfo& info) {
  const SignalSet bit = signal_bit(info.signo);
  // The main thread if it takes it, else anyone who does.
  Task* chosen = nullptr;
  for (Task* task : process.threads) {
    if ((task->blocked & bit) != 0 && info.signo != SIGKILL) continue;
    if (chosen == nullptr || task->tid == process.pid) chosen = task;
  }
  if (chosen != nullptr) chosen->call_in();
}

namespace {

/// Signals that undo each other, before either is queued.
void cancel_opposites(Process& process, int signal) {
  constexpr SignalSet kStops =
      signal_bit(SIGSTOP) | signal_bit(SIGTSTP) | signal_bit(SIGTTIN) | signal_bit(SIGTTOU);
  SignalSet gone = 0;
  if (signal == SIGCONT) gone = kStops;
  if ((kStops & signal_bit(signal)) != 0) gone = signal_bit(SIGCONT);
  if (gone == 0) return;
  process.pending.discard(gone);
  for (Task* task : process.threads) task->pending.discard(gone);
}

bool is_ignored(const Process& process, int signal) {
  const SignalAction& action = process.actions->of[static_cast<size_t>(signal)];
  if (action.handler == 1) return true;
  return action.handler == 0 && default_action(signal) == DefaultAction::kIgnore;
}

/// An init gets only what it has handlers for, and what the sandbox's starter sends; from above its
/// namespace SIGKILL and SIGSTOP too.
bool is_spared(const Process& process, const SignalInfo& info) {
  if (!process.is_init() || !process.pids->init_is_spared || info.code == SI_KERNEL ||
      process.actions->of[static_cast<size_t>(info.signo)].handler != 0)
    return false;
  const Task* sender = Task::current();
  const bool from_above = sender != nullptr && process.pids->number_of(sender->process->pid) == 0;
  return !from_above || (info.signo != SIGKILL && info.signo != SIGSTOP);
}

}  // namespace

void Kernel::notify_parent(Process& process, int code, int status) {
  const ProcessPtr parent = process.parent.lock();
  if (!parent) return;
  const bool exit = code == CLD_EXITED || code == CLD_KILLED || code == CLD_DUMPED;
  const int signal = exit ? process.exit_signal : SIGCHLD;
  if (signal != 0) {
    const SignalAction& action = parent->actions->of[SIGCHLD];
    const bool wanted = exit || (action.flags & SA_NOCLDSTOP) == 0;
    if (wanted) {
      const uint32_t uid = process.uid();
      SignalInfo info = make_signal(
          signal, code, parent->pids->number_of(process.pid),
          parent->threads.empty() ? uid : parent->threads.front()->credentials.shown_uid(uid));
      info.set_status(status);
      send(*parent, info);
    }
  }
  parent->children_changed.wake_all();
}

void Kernel::send(Process& process, const SignalInfo& info) {
  if (process.zombie) return;
  // Who ends a container from outside is no task.
  if (info.signo == SIGKILL && Task::current() != nullptr && is_spared(process, info)) return;
  cancel_opposites(process, info.signo);
  if (info.signo == SIGKILL) {
    end_process(process, SIGKILL);
    return;
  }
  if (info.signo == SIGCONT && process.stopped) {
    process.stopped = false;
    process.continued_reported = false;
    process.threads_changed.wake_all();
    notify_parent(process, CLD_CONTINUED, SIGCONT);
  }
  // What is blocked is never ignored; and pid 1 gets only what it has handlers for.
  const bool blocked_by_all =
      std::all_of(process.threads.begin(), process.threads.end(), [&](const Task* task) {
        return (task->blocked & signal_bit(info.signo)) != 0 ||
               (task->restore_blocked && (*task->restore_blocked & signal_bit(info.signo)) != 0);
      });
  if ((is_spared(process, info) || is_ignored(process, info.signo)) && !blocked_by_all) {
    // A program that was started a moment ago may be about to install one.
    constexpr int64_t kYoungNs = 1'000'000'000;
    if (is_spared(process, info) && !is_ignored(process, info.signo) &&
        host::clock_ns(7) - process.started_ns < kYoungNs)
      process.early |= signal_bit(info.signo);
    return;
  }
  process.pending.add(info);
  process.signal_sent.wake_all();
  wake_for(process, info);
}

void Kernel::send_to(Task& task, const SignalInfo& info) {
  Process& process = *task.process;
  if (process.zombie) return;
  cancel_opposites(process, info.signo);
  if (info.signo == SIGKILL || info.signo == SIGCONT || info.signo == SIGSTOP) {
    send(process, info);
    return;
  }
  if ((is_spared(process, info) || is_ignored(process, info.signo)) &&
      (task.blocked & signal_bit(info.signo)) == 0)
    return;
  task.pending.add(info);
  process.signal_sent.wake_all();
  if ((task.blocked & signal_bit(info.signo)) == 0) task.call_in();
}

Errno Kernel::may_queue(const Process& to, const SignalInfo& info) const {
  constexpr int kFirstRealTime = 32;
  constexpr size_t kPending = 11;  // RLIMIT_SIGPENDING
  if (info.signo < kFirstRealTime || info.code == SI_USER) return kOk;
  if (to.pending.queued() >= PendingSignals::kMaxQueued) return Errno(EAGAIN);
  const uint64_t limit = to.limits[kPending].soft;
  if (limit >= PendingSignals::kMaxQueued) return kOk;
  uint64_t queued = 0;
  for (const auto& [pid, process] : processes)
    if (process->uid() == to.uid()) queued += process->pending.queued();
  for (const auto& [tid, task] : tasks)
    if (task->credentials.uid == to.uid()) queued += task->pending.queued();
  return queued < limit ? kOk : Errno(EAGAIN);
}

void Kernel::limit_shared_memory() {
  const host::MemoryGauge& memory = container->memory;
  const host::MemoryFigures now = memory.read();
  if (now.total == 0) return;  // nothing is known
  shared_memory->set_limit(memory.is_limited() ? now.total : now.total / 2);
}

Errno Kernel::may_signal(const Task& from, Process& to, int signal) {
  if (from.process.get() == &to || to.threads.empty()) return kOk;
  const Credentials& target = to.threads.front()->credentials;
  const Credentials& own = from.credentials;
  if (own.can_in(kCapKill, target.user.get())) return kOk;
  if (own.euid == target.suid || own.euid == target.uid || own.uid == target.suid ||
      own.uid == target.uid)
    return kOk;
  if (signal == SIGCONT && from.process->session == to.session) return kOk;
  return Errno(EPERM);
}

void Kernel::signal_all(const Container& of, int signal) {
  std::lock_guard guard(lock);
  std::set<ProcessPtr> all;
  for (const auto& [tid, task] : tasks)
    if (task->container.get() == &of) all.insert(task->process);
  for (const ProcessPtr& process : all) send(*process, make_signal(signal, SI_USER));
}

bool Kernel::send_to_group(int32_t group, const SignalInfo& info) {
  bool any = false;
  for (const auto& [pid, process] : std::map(processes)) {
    if (process->group != group || process->zombie) continue;
    any = true;
    if (info.signo != 0) send(*process, info);
  }
  return any;
}

namespace {
constexpr std::chrono::seconds kComesIn{1};
}  // namespace

void Kernel::end_process(Process& process, int status) {
  if (process.exiting || process.zombie) return;
  process.exiting = true;
  process.exit_status = status;
  process.stopped = false;
  bool in_guest = false;
  for (Task* task : process.threads) {
    task->call_in();
    in_guest |= task->in_guest_.load();
  }
  process.threads_changed.wake_all();
  if (in_guest) timers.at(Clock::now() + kComesIn, [this, pid = process.pid] { give_up(pid); });
}

// A thread can mask the signal by which we call it in. Nothing of its memory is of use any more,
// unless others have it too who are not to end.
void Kernel::give_up(int32_t pid) {
  std::lock_guard guard(lock);
  const auto found = processes.find(pid);
  if (found == processes.end() || !found->second->exiting) return;
  bool again = false;
  for (const Task* thread : found->second->threads) {
    if (!thread->mm || !thread->in_guest_.load()) continue;
    const bool shared = std::any_of(tasks.begin(), tasks.end(), [&](const auto& entry) {
      return entry.second->mm == thread->mm && !entry.second->process->exiting;
    });
    again |= shared;
    if (!shared) thread->mm->space().kill();
  }
  if (again) timers.at(Clock::now() + kComesIn, [this, pid] { give_up(pid); });
}

void Kernel::enter(const TaskPtr& task) {
  tasks[task->tid] = task.get();
  ++task->container->tasks;
  Process& process = *task->process;
  process.threads.push_back(task.get());
  if (!processes.contains(process.pid)) {
    processes[process.pid] = task->process;
    if (const ProcessPtr parent = process.parent.lock()) parent->children.push_back(task->process);
  }
  ++live_;
  ++forks;
}

Errno Kernel::start(TaskPtr task) {
  auto* handed = new TaskPtr(task);
  const Errno started = workers.start(
      [](void* raw) {
        TaskPtr self = std::move(*static_cast<TaskPtr*>(raw));
        delete static_cast<TaskPtr*>(raw);
        Task::run(std::move(self));
      },
      handed);
  if (!started.ok()) delete handed;
  return started;
}

bool Kernel::is_orphaned(int32_t group, const Process* without) const {
  for (const auto& [pid, member] : processes) {
    if (member->group != group || member->zombie || member.get() == without) continue;
    const ProcessPtr parent = member->parent.lock();
    if (parent && parent->session == member->session && parent->group != group) return false;
  }
  return true;
}

/// Groups that nobody can continue any more once `leaving` is gone, and of which somebody is
/// stopped, are told to go on or to end. `children` have their new parent already.
void Kernel::wake_orphans(const Process& leaving, const std::vector<ProcessPtr>& children) {
  const auto look = [&](int32_t group) {
    if (!is_orphaned(group, &leaving)) return;
    const bool stopped = std::any_of(processes.begin(), processes.end(), [&](const auto& entry) {
      return entry.second->group == group && entry.second->stopped;
    });
    if (!stopped) return;
    send_to_group(group, make_signal(SIGHUP, SI_KERNEL));
    send_to_group(group, make_signal(SIGCONT, SI_KERNEL));
  };
  const ProcessPtr parent = leaving.parent.lock();
  if (parent && parent->session == leaving.session && parent->group != leaving.group)
    look(leaving.group);
  for (const ProcessPtr& child : children)
    if (child->session == leaving.session && child->group != leaving.group) look(child->group);
}

void Kernel::release_terminal_locked(int32_t session) {
  for (const auto& [pid, process] : processes) {
    if (process->session != session || !process->terminal) continue;
    {
      std::lock_guard guard(process->terminal->mutex);
      if (process->terminal->session == session)
        process->terminal->session = process->terminal->foreground = 0;
    }
    process->terminal.reset();
  }
}

void Kernel::leave_terminal(Process& leader, bool at_exit) {
  const std::shared_ptr<Terminal> own = leader.terminal;
  if (!own) {
    const int32_t group = std::exchange(leader.hung_up_foreground, 0);
    if (!at_exit || group == 0) return;
    send_to_group(group, make_signal(SIGHUP, SI_KERNEL));
    send_to_group(group, make_signal(SIGCONT, SI_KERNEL));
    return;
  }
  int32_t foreground = 0;
  {
    std::lock_guard guard(own->mutex);
    foreground = own->foreground;
  }
  release_terminal_locked(leader.session);
  if (foreground == 0) return;
  send_to_group(foreground, make_signal(SIGHUP, SI_KERNEL));
  if (!at_exit) send_to_group(foreground, make_signal(SIGCONT, SI_KERNEL));
}

void Kernel::signal_foreground(Terminal& of, int signal) {
  std::lock_guard guard(lock);
  int32_t group = 0;
  {
    std::lock_guard own(of.mutex);
    group = of.foreground;
  }
  if (group != 0) send_to_group(group, make_signal(signal, SI_KERNEL));
}

void Kernel::hang_up(Terminal& of) {
  std::lock_guard guard(lock);
  int32_t session = 0;
  int32_t foreground = 0;
  {
    std::lock_guard own(of.mutex);
    session = std::exchange(of.session, 0);
    foreground = std::exchange(of.foreground, 0);
  }
  if (session == 0) return;
  std::vector<std::shared_ptr<Terminal>> let_go;  // the last one may be `of`
  for (const auto& [pid, process] : std::map(processes)) {
    if (process->session != session || process->terminal.get() != &of) continue;
    let_go.push_back(std::move(process->terminal));
    if (process->pid != session) continue;
    process->hung_up_foreground = foreground;
    send(*process, make_signal(SIGHUP, SI_KERNEL));
    send(*process, make_signal(SIGCONT, SI_KERNEL));
  }
}

/// pid_namespaces(7): nobody outlives the init of a namespace, and who waits for it finds none of
/// them.
void Kernel::empty_namespace(Task& init) {
  const PidSpacePtr& of = init.process->pids;
  std::vector<ProcessPtr> others;
  {
    std::lock_guard guard(lock);
    if (!of->above || !init.process->is_init() || init.process->threads.size() > 1) return;
    of->has_ended = true;
    for (const auto& [id, process] : processes) {
      if (process == init.process || of->number_of(id) == 0) continue;
      others.push_back(process);
    }
    for (const ProcessPtr& process : others) end_process(*process, SIGKILL);
  }
  Sleeper sleeper;
  (void)wait_until(ended_, sleeper, {}, [&] {
    std::lock_guard guard(lock);
    return std::all_of(others.begin(), others.end(),
                       [](const ProcessPtr& process) { return process->zombie; });
  }).ok();
}

/// The last thread of a process has left.
void Kernel::reap_process(Process& process) {
  const Usage used = process.usage();
  ended_usage.user_ns += used.user_ns;
  ended_usage.system_ns += used.system_ns;
  process.zombie = true;
  process.exiting = true;
  process.executable_path.reset();
  (process.undo_in ? *process.undo_in : sysv).undo(process.semaphore_undo, process.pid);
  // Children go to the nearest who asked for them (PR_SET_CHILD_SUBREAPER), or to their
  // namespace's init.
  ProcessPtr init = process.parent.lock();
  while (init && (!init->child_subreaper || init->zombie)) {
    init = init->parent.lock();
    if (init && init->pids != process.pids) init.reset();
  }
  if (init && init->pids != process.pids) init.reset();
  if (!init) init = find_process(process.pids->init);
  std::vector<ProcessPtr> orphans = std::move(process.children);
  process.children.clear();
  for (const ProcessPtr& child : orphans) {
    for (Task* task : child->threads)
      if (task->parent_death_signal != 0)
        send_to(*task, make_signal(task->parent_death_signal, SI_USER,
                                   child->pids->number_of(process.pid), 0));
    if (init && init.get() != &process && !init->zombie) {
      child->parent = init;
      init->children.push_back(child);
      if (child->zombie) notify_parent(*child, CLD_EXITED, 0);
    } else {
      child->parent.reset();
      if (child->zombie) erase_process(*child);
    }
  }
  wake_orphans(process, orphans);
  if (process.session == process.pid) leave_terminal(process, true);
  process.terminal.reset();
  process.vfork_done = true;
  process.released.wake_all();
  process.has_ended.store(true);
  process.ended.wake_all();
  const ProcessPtr parent = process.parent.lock();
  const int status = process.exit_status;
  const bool killed = WIFSIGNALED(status);
  if (parent) {
    const SignalAction& action = parent->actions->of[SIGCHLD];
    const bool unwaited = process.exit_signal == SIGCHLD &&
                          (action.handler == 1 || (action.flags & SA_NOCLDWAIT) != 0);
    notify_parent(process, killed ? CLD_KILLED : CLD_EXITED,
                  killed ? WTERMSIG(status) : WEXITSTATUS(status));
    if (unwaited) {
      std::erase_if(parent->children,
                    [&](const ProcessPtr& child) { return child.get() == &process; });
      erase_process(process);
    }
  } else if (process.pid != 1) {
    erase_process(process);
  }
  // Without its init a sandbox has nothing to live for.
  if (process.pid == 1)
    for (const auto& [pid, other] : std::map(processes)) end_process(*other, SIGKILL);
}

void Kernel::end_container(Container& ended) {
  std::vector<ProcessPtr> processes_of;
  {
    std::lock_guard guard(lock);
    ended.has_ended = true;
    for (const auto& [tid, task] : tasks)
      if (task->container.get() == &ended) processes_of.push_back(task->process);
    for (const ProcessPtr& process : processes_of) end_process(*process, SIGKILL);
  }
  Sleeper sleeper;
  (void)wait_until(ended_, sleeper, {}, [&] {
    std::lock_guard guard(lock);
    return ended.tasks == 0;
  }).ok();
}

void Kernel::pause(Container& which, bool on) {
  {
    std::lock_guard guard(lock);
    which.paused.store(on);
    for (const auto& [tid, task] : tasks) {
      if (task->container.get() != &which) continue;
      if (!on && task->mm) task->mm->space().go_on();
      if (on && task->in_guest_.load() && task->context) task->context->interrupt();
    }
  }
  if (!on) return resumed_.wake_all();
  Sleeper sleeper;
  do {
    const Errno came =
        wait_until(came_in_, sleeper, Clock::now() + kComesIn, [&] { return has_come_in(which); });
    if (came.ok()) return;
  } while (!halt_rest(which));
}

bool Kernel::has_come_in(const Container& which) {
  std::lock_guard guard(lock);
  return !which.paused.load() || std::none_of(tasks.begin(), tasks.end(), [&](const auto& entry) {
    return entry.second->container.get() == &which && entry.second->in_guest_.load();
  });
}

// A thread can mask the signal by which we call it in, and one that waits for its memory may come
// long after.
bool Kernel::halt_rest(const Container& which) {
  std::lock_guard guard(lock);
  if (!which.paused.load()) return true;
  bool all = true;
  for (const auto& [tid, task] : tasks) {
    if (task->container.get() != &which || !task->in_guest_.load()) continue;
    if (!task->context || !task->context->halt()) all = false;
  }
  return all;
}

int Kernel::wait_for(const ProcessPtr& process) {
  Sleeper sleeper;
  (void)wait_until(ended_, sleeper, {}, [&] {
    std::lock_guard guard(lock);
    return process->zombie;
  }).ok();
  return process->exit_status;
}

void Kernel::wait_for_all() {
  Sleeper sleeper;
  (void)wait_until(ended_, sleeper, {}, [&] {
    std::lock_guard guard(lock);
    return live_ == 0;
  }).ok();
}

}  // namespace fluyt::guest
