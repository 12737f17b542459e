#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <sys/stat.h>
#include <sys/wait.h>

#include <algorithm>
#include <utility>

#include "guest/loader/loader.h"
#include "guest/platform/host/io.h"
#include "guest/sys/handlers.h"
#include "guest/sys/pidfd.h"

namespace fluyt::guest {
namespace {

struct CloneArguments {
  uint64_t flags = 0;
  uint64_t stack = 0;
  uint64_t parent_tid = 0;
  uint64_t child_tid = 0;
  uint64_t tls = 0;
  int exit_signal = 0;
  uint64_t pidfd = 0;
};

/// vfork's parent sleeps until the child has executed or ended, or it is killed itself.
void wait_for_release(Task& task, const ProcessPtr& child) {
  WaitQueue::Entry by_child(child->released, task.sleeper);
  WaitQueue::Entry by_end(task.process->threads_changed, task.sleeper);
  for (;;) {
    {
      std::lock_guard lock(task.kernel.lock);
      if (child->vfork_done || task.process->exiting ||
          (task.process->executing != nullptr && task.process->executing != &task))
        return;
    }
    task.sleeper.sleep_deeply({});
  }
}

}  // namespace

ErrnoOr<std::shared_ptr<MountSpace>> copy_mounts(Task& task, FsContext& fs,
                                                 const UserSpacePtr& of) {
  // Whoever walks through /proc has the tree's lock and asks for this one.
  std::vector<DentryPtr> places;
  {
    std::lock_guard lock(fs.lock);
    places = {fs.root, fs.cwd};
  }
  const auto whom =
      of == task.mounts->user ? Tree::CopyFor::kEqual : Tree::CopyFor::kLessPrivileged;
  Tree::Copy copy = GUEST_TRY(task.kernel.tree->copy(task.mounts->root(), places, whom));
  auto own = GUEST_TRY(task.kernel.new_mounts(std::move(copy.root), of));
  std::lock_guard lock(fs.lock);
  fs.root = std::move(copy.places[0]);
  fs.cwd = std::move(copy.places[1]);
  return own;
}

ErrnoOr<UserSpacePtr> new_users(Task& task) {
  DentryPtr root;
  {
    std::lock_guard lock(task.fs->lock);
    root = task.fs->root;
  }
  const bool is_chrooted = !task.kernel.tree->is_root_of(root, task.mounts->root());
  UserSpacePtr made = GUEST_TRY(task.kernel.new_users(task.credentials));
  // Set-user-id programs would be found below any root.
  if (is_chrooted) return Errno(EPERM);
  return made;
}

namespace {

constexpr uint64_t kClearHandlers = uint64_t{1} << 32;  // CLONE_CLEAR_SIGHAND

/// As a new program begins: what is ignored stays so.
std::shared_ptr<SignalActions> without_handlers(const SignalActions& actions) {
  auto out = std::make_shared<SignalActions>();
  for (size_t i = 0; i < out->of.size(); ++i)
    if (actions.of[i].handler == 1) out->of[i].handler = 1;
  return out;
}

ErrnoOr<uint64_t> do_clone(Task& task, const CloneArguments& request) {
  constexpr uint64_t kHad =
      CLONE_NEWUTS | CLONE_NEWIPC | CLONE_NEWPID | CLONE_NEWNS | CLONE_NEWCGROUP;
  constexpr uint64_t kNotHad = CLONE_NEWNET | CLONE_NEWTIME;
  const uint64_t flags = request.flags;
  if ((flags & CLONE_THREAD) != 0 && (flags & CLONE_SIGHAND) == 0) return Errno(EINVAL);
  if ((flags & CLONE_SIGHAND) != 0 && (flags & CLONE_VM) == 0) return Errno(EINVAL);
  if ((flags & CLONE_SIGHAND) != 0 && (flags & kClearHandlers) != 0) return Errno(EINVAL);
  if ((flags & (CLONE_NEWNS | CLONE_NEWUSER)) != 0 && (flags & CLONE_FS) != 0) return Errno(EINVAL);
  // What the flag once meant, and a descriptor of a thread.
  if ((flags & CLONE_PIDFD) != 0 && (flags & (CLONE_DETACHED | CLONE_THREAD)) != 0)
    return Errno(EINVAL);
  if (request.exit_signal < 0 || request.exit_signal > kSignals) return Errno(EINVAL);
  const bool thread = (flags & CLONE_THREAD) != 0;
  // A thread is born where its process is (pid_namespaces(7)).
  if (thread && ((flags & (CLONE_NEWPID | CLONE_NEWUSER)) != 0 ||
                 (task.pids_for_children && task.pids_for_children != task.process->pids)))
    return Errno(EINVAL);
  // Nobody is to be an init's sibling in its namespace.
  if ((flags & CLONE_PARENT) != 0 && task.process->is_init() && task.process->pids->above)
    return Errno(EINVAL);
  // A user namespace comes first: the others belong to it, and its capabilities make them.
  Credentials credentials = task.credentials;
  if ((flags & CLONE_NEWUSER) != 0) credentials.enter(GUEST_TRY(new_users(task)));
  if ((flags & (kHad | kNotHad)) != 0 && !credentials.has(kCapSysAdmin)) return Errno(EPERM);
  if ((flags & kNotHad) != 0) return Errno(EPERM);
  if ((flags & CLONE_NEWIPC) != 0 && (flags & CLONE_SYSVSEM) != 0) return Errno(EINVAL);
  const UserSpacePtr& user = credentials.user;

  ThreadImage image = GUEST_TRY(task.image());
  image.registers.rax = 0;
  if (request.stack != 0) image.registers.rsp = request.stack;
  if ((flags & CLONE_SETTLS) != 0) image.fs_base = request.tls;

  Kernel& kernel = task.kernel;
  TaskPtr child;
  int32_t shown_id = 0;  // to the caller
  {
    std::lock_guard lock(kernel.lock);
    if (task.process->exiting) return Errno(EINTR);
    // RLIMIT_NPROC counts threads of the real user; root and its like are spared.
    constexpr size_t kProcesses = 6;
    if (const uint64_t limit = task.process->limits[kProcesses].soft;
        limit != ~uint64_t{0} && task.credentials.uid != 0 &&
        !task.credentials.can(kCapSysResource) && !task.credentials.can(kCapSysAdmin)) {
      const auto own = std::count_if(
          kernel.tasks.begin(), kernel.tasks.end(),
          [&](const auto& entry) { return entry.second->credentials.uid == task.credentials.uid; });
      if (static_cast<uint64_t>(own) >= limit) return Errno(EAGAIN);
    }
    PidSpacePtr pids = task.pids_for_children ? task.pids_for_children : task.process->pids;
    if ((flags & CLONE_NEWPID) != 0) {
      if (pids != task.process->pids) return Errno(EINVAL);
      pids = GUEST_TRY(kernel.new_pids(pids, user));
    }
    std::shared_ptr<SystemNames> uts = task.uts;
    std::shared_ptr<SysV> ipc = task.ipc;
    std::shared_ptr<CgroupSpace> cgroups = task.cgroups;
    if ((flags & CLONE_NEWUTS) != 0) uts = GUEST_TRY(kernel.new_names(task.names(), user));
    if ((flags & CLONE_NEWIPC) != 0) ipc = GUEST_TRY(kernel.new_sysv(user));
    if ((flags & CLONE_NEWCGROUP) != 0) cgroups = GUEST_TRY(kernel.new_cgroups(user));
    const auto [id, number] = GUEST_TRY(kernel.new_id(*pids, *task.container));
    shown_id = task.shown(id);
    ProcessPtr process = task.process;
    if (!thread) {
      process = std::make_shared<Process>(kernel, id, pids, number);
      const Process& from = *task.process;
      process->parent = (flags & CLONE_PARENT) != 0 ? from.parent : task.process;
      process->group = from.group;
      process->session = from.session;
      process->terminal = from.terminal;
      if ((flags & CLONE_SIGHAND) != 0) {
        process->actions = from.actions;
      } else if ((flags & kClearHandlers) != 0) {
        process->actions = without_handlers(*from.actions);
      } else {
        *process->actions = *from.actions;
      }
      // A sibling ends as its maker would: the parent asked for no other signal.
      process->exit_signal = (flags & CLONE_PARENT) != 0 ? from.exit_signal : request.exit_signal;
      process->limits = from.limits;
      process->file_size_limit = from.file_size_limit.load();
      // The child of vfork runs in its parent's address space.
      if ((flags & CLONE_VM) != 0) process->user_base_ns = task.mm->space().processor_ns();
      process->executable = from.executable;
      process->executable_path = from.executable_path;
      process->arguments = from.arguments;
      process->dumpable = from.dumpable;
      process->oom_score_adj = from.oom_score_adj.load();
      process->oom_score_floor = from.oom_score_floor.load();
      process->executed_in = from.executed_in;
      process->started_ns = host::clock_ns(7);
      process->vfork_done = (flags & CLONE_VFORK) == 0;
    }
    child = std::make_shared<Task>(kernel, process, id, number, task.container);
    child->blocked = task.blocked;
    child->install_filter(task.filters);
    child->strict = task.strict;
    child->uts = std::move(uts);
    child->ipc = std::move(ipc);
    child->cgroups = std::move(cgroups);
    child->mounts = task.mounts;
    if (thread) child->pids_for_children = task.pids_for_children;
    child->schedule = task.schedule;
    if (task.schedule.reset_on_fork)
      child->schedule = {0, 0, std::max(task.schedule.nice, 0), false, task.schedule.allowed};
    child->name = task.name;
    kernel.reserved.emplace(id, task.container.get());  // nobody sees the task before it is whole
  }
  child->credentials = credentials;
  child->no_new_privileges = task.no_new_privileges.load();
  child->files = (flags & CLONE_FILES) != 0 ? task.files : task.files->copy();
  if ((flags & CLONE_FS) != 0) {
    child->fs = task.fs;
  } else {
    child->fs = std::make_shared<FsContext>();
    std::lock_guard lock(task.fs->lock);
    child->fs->root = task.fs->root;
    child->fs->cwd = task.fs->cwd;
    child->fs->umask = task.fs->umask;
  }
  if ((flags & CLONE_VM) == 0 || (flags & CLONE_VFORK) != 0) child->alternate = task.alternate;

  const int32_t id = child->tid;
  int pid_fd = -1;
  const auto give_up = [&](Errno why) {
    if (pid_fd >= 0) (void)task.files->remove(pid_fd).ok();
    std::lock_guard lock(kernel.lock);
    kernel.reserved.erase(id);
    const PidSpacePtr& pids = child->process->pids;
    if (pids->init == id && pids->above) pids->has_ended = true;
    kernel.release_id(id, pids);
    return why;
  };
  if ((flags & CLONE_NEWNS) != 0) {
    auto own = copy_mounts(task, *child->fs, user);
    if (!own.ok()) return give_up(own.error());
    child->mounts = std::move(own).value();
  }
  if ((flags & CLONE_PIDFD) != 0) {
    ErrnoOr<int> added = task.files->add(make_pid_file(child->process, 0), true);
    if (!added.ok()) return give_up(added.error());
    pid_fd = added.value();
    if (const Errno put = task.put(request.pidfd, pid_fd); !put.ok()) return give_up(put);
  }
  if ((flags & CLONE_VM) != 0) {
    child->mm = task.mm;
    ErrnoOr<std::unique_ptr<Context>> context = task.mm->space().create_context(image);
    if (!context.ok()) return give_up(context.error());
    child->context = std::move(context).value();
  } else {
    auto forked = task.mm->fork(image);
    if (!forked.ok()) return give_up(forked.error());
    child->mm = std::move(forked->first);
    child->context = std::move(forked->second);
  }
  if ((flags & CLONE_CHILD_SETTID) != 0)
    child->put(request.child_tid, child->number).ignore("clone does not look either");
  if ((flags & CLONE_CHILD_CLEARTID) != 0) child->clear_child_tid = request.child_tid;
  if ((flags & CLONE_PARENT_SETTID) != 0)
    task.put(request.parent_tid, shown_id).ignore("clone does not look either");

  const ProcessPtr process = child->process;
  {
    std::lock_guard lock(kernel.lock);
    kernel.reserved.erase(id);
    // A sibling's parent may have ended meanwhile, and given us away without it.
    if (!thread && (flags & CLONE_PARENT) != 0) process->parent = task.process->parent;
    kernel.enter(child);
    if (!thread && process->limits[0].soft != ~uint64_t{0}) kernel.watch_processor_time(process);
    // Who is being killed leaves nobody behind.
    if (!thread && task.process->exiting) kernel.end_process(*process, SIGKILL);
    if (process->exiting || (thread && process->executing != nullptr)) child->call_in();
  }
  if (const Errno started = kernel.start(child); !started.ok()) {
    // It ends before its first instruction, and its parent never had it.
    if (pid_fd >= 0) (void)task.files->remove(pid_fd).ok();
    {
      std::lock_guard lock(kernel.lock);
      if (const ProcessPtr parent = thread ? nullptr : process->parent.lock()) {
        std::erase(parent->children, process);
        process->parent.reset();
        parent->children_changed.wake_all();
      }
      child->ending = Ending{!thread, SIGKILL};
    }
    Task::run(std::move(child));
    return started;
  }
  child.reset();
  if ((flags & CLONE_VFORK) != 0) wait_for_release(task, process);
  return static_cast<uint64_t>(shown_id);
}

ErrnoOr<std::vector<std::string>> get_strings(Task& task, uint64_t address, size_t& left) {
  constexpr size_t kMaxString = 131072;
  constexpr size_t kMaxCount = 65536;
  std::vector<std::string> out;
  if (address == 0) return out;
  for (;; address += 8) {
    const uint64_t at = GUEST_TRY(task.get<uint64_t>(address));
    if (at == 0) return out;
    if (out.size() == kMaxCount) return Errno(E2BIG);
    ErrnoOr<std::string> text = task.get_string(at, std::min(kMaxString, left));
    if (!text.ok()) return text.error().value() == ENAMETOOLONG ? Errno(E2BIG) : text.error();
    left -= std::min(left, text->size() + 9);
    out.push_back(std::move(text).value());
  }
}

/// Ends the other threads of the group; this one becomes its leader. EAGAIN: the group is ending.
Errno be_alone(Task& task) {
  Kernel& kernel = task.kernel;
  Process& process = *task.process;
  std::unique_lock lock(kernel.lock);
  if (process.exiting || process.executing != nullptr) return Errno(EAGAIN);
  process.executing = &task;
  for (Task* other : process.threads)
    if (other != &task) other->call_in();
  process.threads_changed.wake_all();  // who waits for a child of vfork(2) hears nothing else
  while (process.threads.size() > 1) {
    lock.unlock();
    {
      WaitQueue::Entry entry(process.threads_changed, task.sleeper);
      bool alone = false;
      {
        std::lock_guard guard(kernel.lock);
        alone = process.threads.size() == 1;
      }
      if (!alone) task.sleeper.sleep_deeply({});
    }
    lock.lock();
  }
  process.executing = nullptr;
  if (process.exiting) return Errno(EAGAIN);
  if (task.tid != process.pid) {
    kernel.tasks.erase(task.tid);
    kernel.release_id(task.tid, process.pids);
    task.tid = process.pid;
    task.number = process.number;
    kernel.tasks[task.tid] = &task;
  }
  return kOk;
}

std::string_view base_name(std::string_view path) {
  const size_t slash = path.rfind('/');
  return slash == std::string_view::npos ? path : path.substr(slash + 1);
}

ErrnoOr<uint64_t> do_exec(Task& task, const std::string& path, FilePtr file, uint64_t argv,
                          uint64_t envp) {
  size_t left = size_t{2} << 20;
  std::vector<std::string> arguments = GUEST_TRY(get_strings(task, argv, left));
  std::vector<std::string> environment = GUEST_TRY(get_strings(task, envp, left));
  if (arguments.empty()) arguments.emplace_back();

  const Stat stat = GUEST_TRY(file->stat());
  const DentryPtr place = file->path();
  Caller caller = task.caller();
  bool secure = false;
  const bool changes_ids =
      !task.no_new_privileges && !GUEST_TRY(is_script(caller, *file)) &&
      !(place && (task.kernel.tree->has_mount_option(place, "nosuid") ||
                  !task.kernel.tree->is_within(place, task.mounts->root()) ||
                  !UserSpace::is_within(task.credentials.user.get(),
                                        task.kernel.tree->owner_of(place).get())));
  // Root has them all whatever the file says.
  const bool asks = changes_ids && (task.credentials.uid != task.credentials.root() ||
                                    (task.credentials.secure_bits & kSecureNoRoot) != 0);
  const Credentials who =
      GUEST_TRY(over_exec(task.credentials,
                          {.mode = stat.mode,
                           .uid = stat.uid,
                           .gid = stat.gid,
                           .changes_ids = changes_ids,
                           .capabilities = asks ? capabilities_of(*file) : std::nullopt},
                          secure));

  uint64_t stack_bytes = 0;
  {
    std::lock_guard lock(task.kernel.lock);
    stack_bytes = task.process->limits[kStackLimit].soft;
  }
  Loaded loaded = GUEST_TRY(load_program(
      {task.container->platform, *task.kernel.tree, caller, task.walk_from(), path, std::move(file),
       std::move(arguments), std::move(environment), who, secure, stack_bytes}));
  std::unique_ptr<Context> context = GUEST_TRY(loaded.mm->space().create_context(loaded.image));
  task.give_up_futexes();
  GUEST_TRY(be_alone(task));

  // From here on the old program is gone.
  std::unique_ptr<Context> old_context;
  const std::shared_ptr<Mm> old_mm = task.mm;
  const std::string executable =
      loaded.executable->path()
          ? task.kernel.tree->path_of(loaded.executable->path(), task.mounts->root())
          : loaded.executable->describe();
  // A file without a name is known by what it says of itself.
  const DentryPtr executable_path =
      loaded.executable->path()
          ? loaded.executable->path()
          : std::make_shared<Dentry>(nullptr, executable, loaded.executable->inode());
  {
    std::lock_guard lock(task.kernel.lock);
    old_context = std::move(task.context);
    task.context = std::move(context);
    task.process->end_image(*old_mm);
    task.mm = std::move(loaded.mm);
    Process& process = *task.process;
    process.actions = without_handlers(*process.actions);
    process.timers.clear();
    ++process.programs;
    process.executable = executable;
    process.executable_path = executable_path;
    process.arguments = std::move(loaded.arguments);
    process.dumpable = !secure;
    process.executed_in = task.credentials.user;
    process.exit_signal = SIGCHLD;
    process.vfork_done = true;
    process.released.wake_all();
    task.name = std::string(base_name(path)).substr(0, 15);
    task.credentials = std::move(who);
    task.alternate = {0, 2, 0, 0};
    task.clear_child_tid = 0;
    task.robust_list = 0;
    if (secure) task.parent_death_signal = 0;
  }
  if (task.files.use_count() > 1) task.replace_files(task.files->copy());
  task.files->close_for_exec();
  if (old_mm.use_count() > 1) old_context->finish();
  return kCarriedOut;
}

}  // namespace

ErrnoOr<uint64_t> sys_clone(Task& task, Arguments a) {
  // The descriptor goes where the parent's word of the thread's number would.
  if ((a[0] & CLONE_PIDFD) != 0 && (a[0] & CLONE_PARENT_SETTID) != 0) return Errno(EINVAL);
  return do_clone(task, {a[0] & 0xffffff00, a[1], a[2], a[3], a[4], as_int(a[0] & 0xff), a[2]});
}
ErrnoOr<uint64_t> sys_fork(Task& task, Arguments) {
  return do_clone(task, {0, 0, 0, 0, 0, SIGCHLD, 0});
}
ErrnoOr<uint64_t> sys_vfork(Task& task, Arguments) {
  return do_clone(task, {CLONE_VM | CLONE_VFORK, 0, 0, 0, 0, SIGCHLD, 0});
}

ErrnoOr<uint64_t> sys_clone3(Task& task, Arguments a) {
  struct Clone3 {
    uint64_t flags, pidfd, child_tid, parent_tid, exit_signal, stack, stack_size, tls;
    uint64_t set_tid, set_tid_size, cgroup;
  };
  constexpr uint64_t kFirstSize = 64;
  if (a[1] < kFirstSize) return Errno(EINVAL);
  if (a[1] > kPageSize) return Errno(E2BIG);
  std::vector<std::byte> raw(std::max<size_t>(a[1], sizeof(Clone3)));
  GUEST_TRY(task.copy_in(a[0], std::span(raw).first(a[1])));
  // What we do not know must be zero.
  if (std::any_of(raw.begin() + sizeof(Clone3), raw.end(),
                  [](std::byte byte) { return byte != std::byte{0}; }))
    return Errno(E2BIG);
  Clone3 request;
  std::copy_n(raw.data(), sizeof request, std::as_writable_bytes(std::span(&request, 1)).data());
  if ((request.flags & 0xff) != 0 || request.exit_signal > kSignals) return Errno(EINVAL);
  if ((request.stack == 0) != (request.stack_size == 0)) return Errno(EINVAL);
  if (request.set_tid != 0 || request.set_tid_size != 0 ||
      (request.flags >> 32 << 32 & ~kClearHandlers) != 0)
    return Errno(EINVAL);
  return do_clone(
      task, {request.flags, request.stack + request.stack_size, request.parent_tid,
             request.child_tid, request.tls, static_cast<int>(request.exit_signal), request.pidfd});
}

ErrnoOr<uint64_t> sys_execve(Task& task, Arguments a) {
  const std::string path = GUEST_TRY(task.get_path(a[0]));
  FilePtr file = GUEST_TRY(open_executable(*task.kernel.tree, task.walk_from(), path));
  return do_exec(task, path, std::move(file), a[1], a[2]);
}

ErrnoOr<uint64_t> sys_execveat(Task& task, Arguments a) {
  const std::string path = GUEST_TRY(task.get_path(a[1]));
  if (path.empty() && (as_int(a[4]) & 0x1000) != 0) {
    const FilePtr opened = GUEST_TRY(task.files->get(as_int(a[0])));
    if (!opened->inode()) return Errno(EACCES);
    const Stat stat = GUEST_TRY(opened->stat());
    if (!S_ISREG(stat.mode)) return Errno(EACCES);
    GUEST_TRY(may_access(task.credentials, stat, 1));
    if ((stat.mode & 0111) == 0 ||
        (opened->path() && task.kernel.tree->has_mount_option(opened->path(), "noexec")))
      return Errno(EACCES);
    FilePtr file = GUEST_TRY(opened->inode()->open(opened->path(), O_RDONLY));
    file->tell_opened(task.kernel.tree->watches);
    return do_exec(task, "/dev/fd/" + std::to_string(as_int(a[0])), std::move(file), a[2], a[3]);
  }
  const WalkFrom from = GUEST_TRY(walk_from(task, as_int(a[0]), path));
  FilePtr file = GUEST_TRY(open_executable(*task.kernel.tree, from, path));
  return do_exec(task, path, std::move(file), a[2], a[3]);
}

ErrnoOr<uint64_t> sys_exit(Task& task, Arguments a) {
  task.ending = Ending{false, (as_int(a[0]) & 0xff) << 8};
  return uint64_t{0};
}

ErrnoOr<uint64_t> sys_exit_group(Task& task, Arguments a) {
  const int status = (as_int(a[0]) & 0xff) << 8;
  std::lock_guard lock(task.kernel.lock);
  task.kernel.end_process(*task.process, status);
  task.ending = Ending{true, task.process->exit_status};
  return uint64_t{0};
}

namespace {

struct Waited {
  Usage usage;
  int32_t pid = 0;
  int status = 0;  // as wait4 has it
  int code = 0;    // CLD_*
  int value = 0;   // as waitid has it
  uint32_t uid = 0;
};

struct WaitFor {
  int32_t pid = -1;   // > 0 that one, -1 any, 0 none
  int32_t group = 0;  // > 0: of that group
  bool exited = true;
  bool stopped = false;
  bool continued = false;
  bool keep = false;  // WNOWAIT
  bool nohang = false;
  bool again = false;  // EAGAIN in place of a wait
};

ErrnoOr<Waited> wait_for_child(Task& task, const WaitFor& what) {
  Kernel& kernel = task.kernel;
  Process& self = *task.process;
  Waited found;
  bool none = false;
  const auto look = [&] {
    std::lock_guard lock(kernel.lock);
    none = true;
    for (size_t i = 0; i < self.children.size(); ++i) {
      const ProcessPtr child = self.children[i];
      if (what.pid >= 0 && child->pid != what.pid) continue;
      if (what.group > 0 && child->group != what.group) continue;
      none = false;
      found.pid = self.pids->number_of(child->pid);
      found.uid = task.credentials.shown_uid(child->uid());
      if (child->zombie && what.exited) {
        found.status = child->exit_status;
        const bool killed = WIFSIGNALED(found.status);
        found.code = killed ? CLD_KILLED : CLD_EXITED;
        found.value = killed ? WTERMSIG(found.status) : WEXITSTATUS(found.status);
        found.usage = child->usage();
        found.usage.user_ns += child->children_usage.user_ns;
        found.usage.system_ns += child->children_usage.system_ns;
        if (!what.keep) {
          self.children_usage.user_ns += found.usage.user_ns;
          self.children_usage.system_ns += found.usage.system_ns;
          kernel.erase_process(*child);
          self.children.erase(self.children.begin() + static_cast<ptrdiff_t>(i));
        }
        return true;
      }
      if (child->stopped && !child->stop_reported && what.stopped) {
        found.status = (child->stop_signal << 8) | 0x7f;
        found.code = CLD_STOPPED;
        found.value = child->stop_signal;
        if (!what.keep) child->stop_reported = true;
        return true;
      }
      if (!child->continued_reported && what.continued) {
        found.status = 0xffff;
        found.code = CLD_CONTINUED;
        found.value = SIGCONT;
        if (!what.keep) child->continued_reported = true;
        return true;
      }
    }
    found = {};
    return none || what.nohang || what.again;
  };
  GUEST_TRY(wait_until(self.children_changed, task.sleeper, {}, look));
  if (none) return Errno(ECHILD);
  if (found.pid == 0 && what.again && !what.nohang) return Errno(EAGAIN);
  return found;
}

}  // namespace

ErrnoOr<uint64_t> sys_wait4(Task& task, Arguments a) {
  const int options = as_int(a[2]);
  constexpr int kKnown =
      WNOHANG | WUNTRACED | WCONTINUED | 0x20000000 | 0x40000000 | static_cast<int>(0x80000000U);
  if ((options & ~kKnown) != 0) return Errno(EINVAL);
  const int32_t pid = as_int(a[0]);
  if (pid == INT32_MIN) return Errno(ESRCH);
  WaitFor what;
  what.stopped = (options & WUNTRACED) != 0;
  what.continued = (options & WCONTINUED) != 0;
  what.nohang = (options & WNOHANG) != 0;
  if (pid > 0) what.pid = task.meant(pid);
  if (pid == 0) what.group = task.process_group();
  // A group that there is not has no children in it either.
  if (pid < -1 && (what.group = task.meant(-pid)) == 0) what.pid = 0;
  const Waited waited = GUEST_TRY(wait_for_child(task, what));
  if (waited.pid != 0 && a[1] != 0) GUEST_TRY(task.put(a[1], waited.status));
  if (waited.pid != 0 && a[3] != 0) {
    GUEST_TRY(task.put(a[3], resource_usage(waited.usage)));
  }
  return static_cast<uint64_t>(waited.pid);
}

ErrnoOr<uint64_t> sys_waitid(Task& task, Arguments a) {
  const int options = as_int(a[3]);
  constexpr int kKnown = WNOHANG | WNOWAIT | WEXITED | WSTOPPED | WCONTINUED | 0x20000000 |
                         0x40000000 | static_cast<int>(0x80000000U);
  if ((options & ~kKnown) != 0 || (options & (WEXITED | WSTOPPED | WCONTINUED)) == 0)
    return Errno(EINVAL);
  WaitFor what;
  switch (as_int(a[0])) {
    case 0:
      break;  // P_ALL
    case 1:
      if (as_int(a[1]) <= 0) return Errno(EINVAL);
      what.pid = task.meant(as_int(a[1]));
      break;
    case 2:
      if (as_int(a[1]) < 0) return Errno(EINVAL);
      what.group = as_int(a[1]) == 0 ? task.process_group() : task.meant(as_int(a[1]));
      if (what.group == 0) what.pid = 0;
      break;
    case 3: {  // P_PIDFD
      bool nonblocking = false;
      const ProcessPtr process = GUEST_TRY(process_of(task, as_int(a[1]), &nonblocking));
      what.pid = process->pid;
      what.again = nonblocking;
      break;
    }
    default:
      return Errno(EINVAL);
  }
  what.exited = (options & WEXITED) != 0;
  what.stopped = (options & WSTOPPED) != 0;
  what.continued = (options & WCONTINUED) != 0;
  what.nohang = (options & WNOHANG) != 0;
  what.keep = (options & WNOWAIT) != 0;
  const Waited waited = GUEST_TRY(wait_for_child(task, what));
  if (a[2] != 0) {
    SignalInfo info;
    if (waited.pid != 0) {
      info.signo = SIGCHLD;
      info.code = waited.code;
      info.set_sender(waited.pid, waited.uid);
      info.set_status(waited.value);
    }
    GUEST_TRY(task.put(a[2], info));
  }
  if (a[4] != 0) {
    GUEST_TRY(task.put(a[4], resource_usage(waited.usage)));
  }
  return uint64_t{0};
}

ErrnoOr<uint64_t> sys_getpid(Task& task, Arguments) {
  return static_cast<uint64_t>(task.process->number);
}
ErrnoOr<uint64_t> sys_gettid(Task& task, Arguments) { return static_cast<uint64_t>(task.number); }
ErrnoOr<uint64_t> sys_getppid(Task& task, Arguments) {
  std::lock_guard lock(task.kernel.lock);
  const ProcessPtr parent = task.process->parent.lock();
  return static_cast<uint64_t>(parent ? task.shown(parent->pid) : 0);
}

namespace {
ErrnoOr<ProcessPtr> find_process(Task& task, int32_t number) {  // under lock
  if (number == 0) return task.process;
  const int32_t id = task.meant(number);
  if (ProcessPtr process = task.kernel.find_process(id)) return process;
  const auto thread = task.kernel.tasks.find(id);
  if (thread == task.kernel.tasks.end()) return Errno(ESRCH);
  return thread->second->process;
}
}  // namespace

ErrnoOr<uint64_t> sys_getpgid(Task& task, Arguments a) {
  std::lock_guard lock(task.kernel.lock);
  const ProcessPtr process = GUEST_TRY(find_process(task, as_int(a[0])));
  return static_cast<uint64_t>(task.shown(process->group));
}
ErrnoOr<uint64_t> sys_getpgrp(Task& task, Arguments) {
  std::lock_guard lock(task.kernel.lock);
  return static_cast<uint64_t>(task.shown(task.process->group));
}
ErrnoOr<uint64_t> sys_getsid(Task& task, Arguments a) {
  std::lock_guard lock(task.kernel.lock);
  const ProcessPtr process = GUEST_TRY(find_process(task, as_int(a[0])));
  return static_cast<uint64_t>(task.shown(process->session));
}

ErrnoOr<uint64_t> sys_setpgid(Task& task, Arguments a) {
  const int32_t pid = as_int(a[0]);
  int32_t group = as_int(a[1]);
  if (group < 0) return Errno(EINVAL);
  std::lock_guard lock(task.kernel.lock);
  const ProcessPtr process = GUEST_TRY(find_process(task, pid));
  group = group == 0 ? process->pid : task.meant(group);
  if (process != task.process) {
    if (process->parent.lock() != task.process) return Errno(ESRCH);
    if (process->session != task.process->session) return Errno(EPERM);
    if (process->programs != 0) return Errno(EACCES);
  }
  if (process->session == process->pid) return Errno(EPERM);
  if (group != process->pid) {
    const bool there = std::any_of(
        task.kernel.processes.begin(), task.kernel.processes.end(), [&](const auto& entry) {
          return entry.second->group == group && entry.second->session == task.process->session;
        });
    if (!there) return Errno(EPERM);
  }
  const int32_t old = std::exchange(process->group, group);
  task.kernel.release_id(old, process->pids);
  return uint64_t{0};
}

ErrnoOr<uint64_t> sys_setsid(Task& task, Arguments) {
  std::lock_guard lock(task.kernel.lock);
  const int32_t pid = task.process->pid;
  for (const auto& [id, process] : task.kernel.processes)
    if (process->group == pid) return Errno(EPERM);
  for (int32_t* id : {&task.process->session, &task.process->group})
    task.kernel.release_id(std::exchange(*id, pid), task.process->pids);
  task.process->terminal.reset();
  return static_cast<uint64_t>(task.process->number);
}

ErrnoOr<uint64_t> sys_set_tid_address(Task& task, Arguments a) {
  task.clear_child_tid = a[0];
  return static_cast<uint64_t>(task.number);
}

ErrnoOr<uint64_t> sys_set_robust_list(Task& task, Arguments a) {
  if (a[1] != 24) return Errno(EINVAL);
  task.robust_list = a[0];
  return uint64_t{0};
}

ErrnoOr<uint64_t> sys_get_robust_list(Task& task, Arguments a) {
  uint64_t head = task.robust_list;
  if (as_int(a[0]) != 0 && as_int(a[0]) != task.number) {
    std::lock_guard lock(task.kernel.lock);
    const auto found = task.kernel.tasks.find(task.meant(as_int(a[0])));
    if (found == task.kernel.tasks.end()) return Errno(ESRCH);
    if (found->second->process != task.process) return Errno(EPERM);
    head = found->second->robust_list;
  }
  GUEST_TRY(task.put(a[2], uint64_t{24}));
  GUEST_TRY(task.put(a[1], head));
  return uint64_t{0};
}

ErrnoOr<uint64_t> sys_arch_prctl(Task& task, Arguments a) {
  switch (a[0]) {
    case 0x1001:  // ARCH_SET_GS
    case 0x1002:  // ARCH_SET_FS
      if (a[1] >= kGuestTop) return Errno(EPERM);
      task.context->carry_out();
      return kCarriedOut;
    case 0x1003:
    case 0x1004: {
      if (task.registers() == nullptr) return Errno(ESRCH);
      const uint64_t base = a[0] == 0x1003 ? task.context->fs_base() : task.context->gs_base();
      GUEST_TRY(task.put(a[1], base));
      return uint64_t{0};
    }
    default:
      return Errno(EINVAL);
  }
}

namespace {

constexpr uint64_t kTimerSlack = 50'000;

ErrnoOr<uint64_t> set_secure_bits(Task& task, uint64_t wanted) {
  constexpr uint32_t kLocks = 0xaa;
  constexpr uint32_t kAll = 0xff;
  Credentials& who = task.credentials;
  // A lock is never undone, nor what it locks changed.
  const uint32_t locked = (who.secure_bits & kLocks) >> 1;
  if ((wanted & ~uint64_t{kAll}) != 0 || ((who.secure_bits ^ wanted) & locked) != 0 ||
      (who.secure_bits & kLocks & ~wanted) != 0 || !who.has(kCapSetpcap))
    return Errno(EPERM);
  who.secure_bits = static_cast<uint32_t>(wanted);
  return uint64_t{0};
}

ErrnoOr<uint64_t> change_ambient(Task& task, Arguments a) {
  constexpr uint64_t kIsSet = 1;
  constexpr uint64_t kRaise = 2;
  constexpr uint64_t kLower = 3;
  constexpr uint64_t kClear = 4;
  Credentials& who = task.credentials;
  if (a[1] == kClear) {
    if (a[2] != 0 || a[3] != 0 || a[4] != 0) return Errno(EINVAL);
    who.ambient = 0;
    return uint64_t{0};
  }
  if (a[3] != 0 || a[4] != 0 || a[2] > 40) return Errno(EINVAL);
  const uint64_t bit = uint64_t{1} << a[2];
  switch (a[1]) {
    case kIsSet:
      return uint64_t{(who.ambient & bit) != 0 ? 1U : 0U};
    case kRaise:
      if ((who.permitted & bit) == 0 || (who.inheritable & bit) == 0 ||
          (who.secure_bits & kSecureNoAmbientRaise) != 0)
        return Errno(EPERM);
      who.ambient |= bit;
      return uint64_t{0};
    case kLower:
      who.ambient &= ~bit;
      return uint64_t{0};
    default:
      return Errno(EINVAL);
  }
}

}  // namespace

ErrnoOr<uint64_t> sys_prctl(Task& task, Arguments a) {
  switch (as_int(a[0])) {
    case 1:  // PR_SET_PDEATHSIG
      if (a[1] > kSignals) return Errno(EINVAL);
      task.parent_death_signal = as_int(a[1]);
      return uint64_t{0};
    case 2:
      GUEST_TRY(task.put(a[1], task.parent_death_signal));
      return uint64_t{0};
    case 3: {
      std::lock_guard lock(task.kernel.lock);
      return uint64_t{task.process->dumpable ? 1U : 0U};
    }
    case 4: {
      if (a[1] > 1) return Errno(EINVAL);
      std::lock_guard lock(task.kernel.lock);
      task.process->dumpable = a[1] == 1;
      return uint64_t{0};
    }
    case 7:  // PR_GET_KEEPCAPS
      return uint64_t{(task.credentials.secure_bits & kSecureKeepCaps) != 0 ? 1U : 0U};
    case 8:
      if (a[1] > 1) return Errno(EINVAL);
      if ((task.credentials.secure_bits & kSecureKeepCapsLocked) != 0) return Errno(EPERM);
      task.credentials.secure_bits &= ~kSecureKeepCaps;
      if (a[1] == 1) task.credentials.secure_bits |= kSecureKeepCaps;
      return uint64_t{0};
    case 13:  // PR_GET_TIMING
      return uint64_t{0};
    case 14:
      return a[1] == 0 ? ErrnoOr<uint64_t>(uint64_t{0}) : Errno(EINVAL);
    case 15: {
      ErrnoOr<std::string> name = task.get_string(a[1], 16);
      std::string text;
      if (name.ok()) {
        text = std::move(name).value();
      } else {
        if (name.error().value() != ENAMETOOLONG) return name.error();
        text.resize(15);
        GUEST_TRY(task.copy_in(a[1], std::as_writable_bytes(std::span(text))));
      }
      std::lock_guard lock(task.kernel.lock);
      task.name = text.substr(0, 15);
      return uint64_t{0};
    }
    case 16: {
      char name[16] = {};
      {
        std::lock_guard lock(task.kernel.lock);  // others of the process may name it (/proc)
        task.name.copy(name, 15);
      }
      GUEST_TRY(task.put(a[1], name));
      return uint64_t{0};
    }
    case 21: {  // PR_GET_SECCOMP
      if (task.strict) return uint64_t{1};
      return uint64_t{task.filter.load() != nullptr ? 2U : 0U};
    }
    case 22:  // PR_SET_SECCOMP
      if (a[1] == 1) return set_seccomp_strict(task);
      if (a[1] == 2) return set_seccomp_filter(task, 0, a[2]);
      return Errno(EINVAL);
    case 23: {  // PR_CAPBSET_READ
      if (a[1] > 40) return Errno(EINVAL);
      return task.credentials.bounding >> a[1] & 1;
    }
    case 24: {
      if (a[1] > 40) return Errno(EINVAL);
      if (!task.credentials.has(kCapSetpcap)) return Errno(EPERM);
      task.credentials.bounding &= ~(uint64_t{1} << a[1]);
      return uint64_t{0};
    }
    case 27:  // PR_GET_SECUREBITS
      return uint64_t{task.credentials.secure_bits};
    case 28:
      return set_secure_bits(task, a[1]);
    case 29:
      task.timer_slack_ns = a[1] == 0 ? kTimerSlack : a[1];
      return uint64_t{0};
    case 30:
      return std::min<uint64_t>(task.timer_slack_ns, INT32_MAX);
    case 31:
    case 32:  // counters of performance, of which there are none
      return uint64_t{0};
    case 36: {
      std::lock_guard lock(task.kernel.lock);
      task.process->child_subreaper = a[1] != 0;
      return uint64_t{0};
    }
    case 37: {
      int set = 0;
      {
        std::lock_guard lock(task.kernel.lock);
        set = task.process->child_subreaper ? 1 : 0;
      }
      GUEST_TRY(task.put(a[1], set));
      return uint64_t{0};
    }
    case 38:
      if (a[1] != 1 || a[2] != 0 || a[3] != 0 || a[4] != 0) return Errno(EINVAL);
      task.no_new_privileges = true;
      return uint64_t{0};
    case 39:
      if (a[1] != 0 || a[2] != 0 || a[3] != 0 || a[4] != 0) return Errno(EINVAL);
      return uint64_t{task.no_new_privileges ? 1U : 0U};
    case 40:  // PR_GET_TID_ADDRESS
      GUEST_TRY(task.put(a[1], task.clear_child_tid));
      return uint64_t{0};
    case 41:  // PR_SET_THP_DISABLE
      if (a[2] != 0 || a[3] != 0 || a[4] != 0) return Errno(EINVAL);
      task.process->huge_pages_off = a[1] != 0;
      return uint64_t{0};
    case 42:
      if (a[1] != 0 || a[2] != 0 || a[3] != 0 || a[4] != 0) return Errno(EINVAL);
      return uint64_t{task.process->huge_pages_off ? 1U : 0U};
    case 47:  // PR_CAP_AMBIENT
      return change_ambient(task, a);
    case 0x59616d61:  // PR_SET_PTRACER: nobody traces
      return uint64_t{0};
    default:
      return Errno(EINVAL);
  }
}

ErrnoOr<uint64_t> sys_sched_yield(Task&, Arguments) {
  std::this_thread::yield();
  return uint64_t{0};
}

}  // namespace fluyt::guest
