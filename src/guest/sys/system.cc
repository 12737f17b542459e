#include <algorithm>
#include <cstring>
#include <utility>

#include "guest/platform/host/io.h"
#include "guest/sys/handlers.h"
#include "guest/sys/pidfd.h"
#include "guest/task/namespaces.h"

namespace fluyt::guest {
namespace {

constexpr int kFileSize = 1;  // RLIMIT_FSIZE
constexpr int kNoFile = 7;    // RLIMIT_NOFILE

ErrnoOr<ProcessPtr> limit_target(Task& task, int32_t pid) {  // under lock
  if (pid == 0 || pid == task.process->number) return task.process;
  const auto found = task.kernel.processes.find(task.meant(pid));
  if (found == task.kernel.processes.end()) return Errno(ESRCH);
  return found->second;
}

ErrnoOr<uint64_t> change_limit(Task& task, int32_t pid, int which, uint64_t set, uint64_t get) {
  if (which < 0 || static_cast<size_t>(which) >= kLimits) return Errno(EINVAL);
  Limit wanted;
  if (set != 0) {
    wanted = GUEST_TRY(task.get<Limit>(set));
    if (wanted.soft > wanted.hard) return Errno(EINVAL);
  }
  Limit before;
  {
    std::lock_guard lock(task.kernel.lock);
    const ProcessPtr process = GUEST_TRY(limit_target(task, pid));
    // prlimit(2): of another's with the same ids, or with the capability where it is.
    if (process != task.process && !process->threads.empty()) {
      const Credentials& own = task.credentials;
      const Credentials& its = process->threads.front()->credentials;
      const bool same = own.uid == its.euid && own.uid == its.suid && own.uid == its.uid &&
                        own.gid == its.egid && own.gid == its.sgid && own.gid == its.gid;
      if (!same && !own.can_in(kCapSysResource, its.user.get())) return Errno(EPERM);
    }
    Limit& slot = process->limits[static_cast<size_t>(which)];
    before = slot;
    if (set != 0) {
      if (wanted.hard > slot.hard && !task.credentials.can(kCapSysResource)) return Errno(EPERM);
      constexpr uint64_t kMaxOpen = 1 << 20;  // fs.nr_open
      if (which == kNoFile && wanted.hard > kMaxOpen) return Errno(EPERM);
      slot = wanted;
      if (which == 0) task.kernel.watch_processor_time(process);  // RLIMIT_CPU
      if (which == kFileSize) process->file_size_limit = wanted.soft;
      if (which == kNoFile && process == task.process) task.files->set_limit(wanted.soft);
    }
  }
  if (get != 0) GUEST_TRY(task.put(get, before));
  return uint64_t{0};
}

}  // namespace

ErrnoOr<uint64_t> sys_prlimit64(Task& task, Arguments a) {
  return change_limit(task, as_int(a[0]), as_int(a[1]), a[2], a[3]);
}
ErrnoOr<uint64_t> sys_getrlimit(Task& task, Arguments a) {
  if (a[1] == 0) return Errno(EFAULT);
  return change_limit(task, 0, as_int(a[0]), 0, a[1]);
}
ErrnoOr<uint64_t> sys_setrlimit(Task& task, Arguments a) {
  if (a[1] == 0) return Errno(EFAULT);
  return change_limit(task, 0, as_int(a[0]), a[1], 0);
}

std::array<int64_t, 18> resource_usage(const Usage& usage) {
  constexpr int64_t kSecond = 1'000'000'000;
  std::array<int64_t, 18> out{};
  out[0] = usage.user_ns / kSecond;
  out[1] = usage.user_ns % kSecond / 1000;
  out[2] = usage.system_ns / kSecond;
  out[3] = usage.system_ns % kSecond / 1000;
  return out;
}

ErrnoOr<uint64_t> sys_getrusage(Task& task, Arguments a) {
  constexpr int kChildren = -1;
  constexpr int kThread = 1;
  const int who = as_int(a[0]);
  if (who < kChildren || who > kThread) return Errno(EINVAL);
  Usage usage;
  {
    std::unique_lock lock(task.kernel.lock);
    if (who == kChildren) {
      usage = task.process->children_usage;
    } else if (who == kThread && task.process->threads.size() > 1) {
      // Only the host can tell one thread of a stub from another.
      lock.unlock();
      if (a[1] >= kGuestTop - kPageSize) return Errno(EFAULT);
      task.context->carry_out();
      return kCarriedOut;
    } else {
      usage = task.process->usage();
    }
  }
  GUEST_TRY(task.put(a[1], resource_usage(usage)));
  return uint64_t{0};
}

ErrnoOr<uint64_t> sys_times(Task& task, Arguments a) {
  constexpr int64_t kTick = 10'000'000;
  if (a[0] != 0) {
    std::array<int64_t, 4> out{};
    {
      std::lock_guard lock(task.kernel.lock);
      const Usage own = task.process->usage();
      const Usage& children = task.process->children_usage;
      out = {own.user_ns / kTick, own.system_ns / kTick, children.user_ns / kTick,
             children.system_ns / kTick};
    }
    GUEST_TRY(task.put(a[0], out));
  }
  return static_cast<uint64_t>(host::clock_ns(7) / kTick);
}

ErrnoOr<uint64_t> sys_sysinfo(Task& task, Arguments a) {
  struct {
    int64_t uptime = 0;
    uint64_t loads[3] = {};
    uint64_t total = 0, free = 0, shared = 0, buffers = 0, swap = 0, swap_free = 0;
    uint16_t processes = 0, padding = 0;
    uint32_t padding2 = 0;
    uint64_t high = 0, high_free = 0;
    uint32_t unit = 1, padding3 = 0;
  } out;
  static_assert(sizeof out == 112);
  out.uptime = (host::clock_ns(7) - task.kernel.booted_ns) / 1'000'000'000;
  const host::MemoryFigures memory = task.container->memory.read();
  out.total = memory.total;
  out.free = memory.free;
  out.shared = memory.shared;
  out.buffers = memory.buffers;
  out.swap = memory.swap_total;
  out.swap_free = memory.swap_free;
  {
    constexpr double kFixedPoint = 65536;  // SI_LOAD_SHIFT
    std::lock_guard lock(task.kernel.lock);
    const LoadAverage::Values load = task.kernel.load();
    for (size_t i = 0; i < load.size(); ++i)
      out.loads[i] = static_cast<uint64_t>(load[i] * kFixedPoint);
    out.processes = static_cast<uint16_t>(std::min<size_t>(task.kernel.tasks.size(), 65535));
  }
  GUEST_TRY(task.put(a[0], out));
  return uint64_t{0};
}

ErrnoOr<uint64_t> sys_uname(Task& task, Arguments a) {
  struct {
    char system[65] = "Linux";
    char node[65] = {};
    char release[65] = "6.1.0-fluyt";
    char version[65] = "#1 SMP fluyt guest";
    char machine[65] = "x86_64";
    char domain[65] = {};
  } out;
  {
    std::lock_guard lock(task.kernel.lock);
    task.names().host.copy(out.node, 64);
    task.names().domain.copy(out.domain, 64);
  }
  GUEST_TRY(task.put(a[0], out));
  return uint64_t{0};
}

namespace {
/// Of the UTS namespace that the caller is in.
bool may_name_system(Task& task) {
  std::lock_guard lock(task.kernel.lock);
  return task.credentials.can_in(kCapSysAdmin, task.names().user.get());
}
}  // namespace

ErrnoOr<uint64_t> sys_sethostname(Task& task, Arguments a) {
  if (!may_name_system(task)) return Errno(EPERM);
  const int length = as_int(a[1]);
  if (length < 0 || length > 64) return Errno(EINVAL);
  std::string name(static_cast<size_t>(length), 0);
  GUEST_TRY(task.copy_in(a[0], std::as_writable_bytes(std::span(name))));
  std::lock_guard lock(task.kernel.lock);
  task.names().host = name.c_str();
  return uint64_t{0};
}

ErrnoOr<uint64_t> sys_getrandom(Task& task, Arguments a) {
  constexpr uint64_t kMax = 0x1ffffff;
  if ((a[2] & ~uint64_t{7}) != 0 || (a[2] & 6) == 6) return Errno(EINVAL);
  const uint64_t length = std::min(a[1], kMax);
  std::byte buffer[4096];
  for (uint64_t done = 0; done < length;) {
    const size_t step = std::min<uint64_t>(sizeof buffer, length - done);
    host::fill_random(std::span(buffer).first(step));
    const Errno put = task.copy_out(a[0] + done, std::span(buffer).first(step));
    if (!put.ok()) return done != 0 ? ErrnoOr<uint64_t>(done) : put;
    done += step;
  }
  return length;
}

ErrnoOr<uint64_t> sys_getcpu(Task& task, Arguments a) {
  // The two threads of a pair stand on one processor while one waits for the other.
  if (a[0] != 0) GUEST_TRY(task.put(a[0], uint32_t{host::current_processor()}));
  if (a[1] != 0) GUEST_TRY(task.put(a[1], uint32_t{0}));
  return uint64_t{0};
}

ErrnoOr<uint64_t> sys_setdomainname(Task& task, Arguments a) {
  if (!may_name_system(task)) return Errno(EPERM);
  const int length = as_int(a[1]);
  if (length < 0 || length > 64) return Errno(EINVAL);
  std::string name(static_cast<size_t>(length), 0);
  GUEST_TRY(task.copy_in(a[0], std::as_writable_bytes(std::span(name))));
  std::lock_guard lock(task.kernel.lock);
  task.names().domain = name.c_str();
  return uint64_t{0};
}

ErrnoOr<uint64_t> sys_personality(Task&, Arguments a) {
  // Linux's own, PER_LINUX, is all there is; 0xffffffff asks for it.
  const auto wanted = static_cast<uint32_t>(a[0]);
  if (wanted == 0 || wanted == ~0U) return uint64_t{0};
  return Errno(EINVAL);
}

namespace {

constexpr uint64_t kNewTime = 0x80;
constexpr uint64_t kNewMounts = 0x00020000;
constexpr uint64_t kNewCgroups = 0x02000000;
constexpr uint64_t kNewNames = 0x04000000;
constexpr uint64_t kNewIpc = 0x08000000;
constexpr uint64_t kNewUsers = 0x10000000;
constexpr uint64_t kNewPids = 0x20000000;
constexpr uint64_t kNewNetwork = 0x40000000;

/// What semaphores of the old one would be given back at the end is given back now.
void enter_ipc(Task& task, std::shared_ptr<SysV> ipc) {
  std::lock_guard lock(task.kernel.lock);
  Process& process = *task.process;
  (process.undo_in ? *process.undo_in : task.kernel.sysv).undo(process.semaphore_undo, process.pid);
  process.semaphore_undo.clear();
  task.ipc = std::move(ipc);
}

bool is_alone(Task& task) {
  std::lock_guard lock(task.kernel.lock);
  return task.process->threads.size() == 1;
}

/// Between calls nobody else has the thread's namespaces; others look under the lock.
Errno enter_namespaces(Task& task, uint64_t flags, const Namespaces& in) {
  // The user namespace comes first: what it gives opens the others.
  Credentials who = task.credentials;
  if ((flags & kNewUsers) != 0) {
    if (in.user == who.user || !is_alone(task) || task.fs.use_count() > 1) return Errno(EINVAL);
    if (!who.can_in(kCapSysAdmin, in.user.get())) return Errno(EPERM);
    who.enter(in.user);
  }
  const auto may_enter = [&](const UserSpacePtr& owner) {
    return who.has(kCapSysAdmin) && who.can_in(kCapSysAdmin, owner.get());
  };
  const UserSpacePtr first;
  if ((flags & kNewMounts) != 0) {
    if (!may_enter(in.mounts->user) || !who.has(kCapSysChroot)) return Errno(EPERM);
    if (task.fs.use_count() > 1) return Errno(EINVAL);
  }
  if ((flags & kNewNames) != 0 && !may_enter(in.uts ? in.uts->user : first)) return Errno(EPERM);
  if ((flags & kNewIpc) != 0 && !may_enter(in.ipc ? in.ipc->user : first)) return Errno(EPERM);
  if ((flags & kNewPids) != 0) {
    if (!may_enter(in.pids->user)) return Errno(EPERM);
    // One may go down, to where one's children are seen from.
    if (!in.pids->is_within(*task.process->pids)) return Errno(EINVAL);
  }
  if ((flags & kNewCgroups) != 0 && !may_enter(in.cgroups ? in.cgroups->user : first))
    return Errno(EPERM);
  if ((flags & kNewNetwork) != 0 && !may_enter(first)) return Errno(EPERM);
  // What they held goes when the lock is free again.
  Namespaces old = in;
  DentryPtr old_root;
  DentryPtr old_cwd;
  {
    std::lock_guard lock(task.kernel.lock);
    if ((flags & kNewUsers) != 0) std::swap(task.credentials, who);
    if ((flags & kNewNames) != 0) task.uts.swap(old.uts);
    if ((flags & kNewPids) != 0) task.pids_for_children.swap(old.pids);
    if ((flags & kNewMounts) != 0) task.mounts.swap(old.mounts);
    if ((flags & kNewCgroups) != 0) task.cgroups.swap(old.cgroups);
  }
  if ((flags & kNewMounts) != 0) {
    const DentryPtr root = task.mounts->root();
    std::lock_guard lock(task.fs->lock);
    old_root = std::exchange(task.fs->root, root);
    old_cwd = std::exchange(task.fs->cwd, root);
  }
  if ((flags & kNewIpc) != 0 && in.ipc != task.ipc) enter_ipc(task, in.ipc);
  return kOk;
}

}  // namespace

ErrnoOr<uint64_t> sys_setns(Task& task, Arguments a) {
  const uint64_t flags = static_cast<uint32_t>(a[1]);
  const FilePtr file = GUEST_TRY(task.files->get(as_int(a[0])));
  if (const auto* one = dynamic_cast<const NamespaceInode*>(file->inode().get())) {
    if (flags != 0 && flags != one->name.flag) return Errno(EINVAL);
    GUEST_TRY(enter_namespaces(task, one->name.flag, one->inside));
    return uint64_t{0};
  }
  const ErrnoOr<ProcessPtr> of = process_of(task, as_int(a[0]));
  constexpr uint64_t kKnown =
      kNewUsers | kNewMounts | kNewNames | kNewIpc | kNewPids | kNewCgroups | kNewNetwork;
  if (!of.ok() || flags == 0 || (flags & ~kKnown) != 0) return Errno(EINVAL);
  Namespaces in;
  {
    std::lock_guard lock(task.kernel.lock);
    if (of.value()->threads.empty()) return Errno(ESRCH);
    const Task& other = *of.value()->threads.front();
    if (!may_look_into(task, other, LookBy::kRealIds)) return Errno(EPERM);
    in = {other.uts,    other.ipc, other.mounts, of.value()->pids, other.credentials.user,
          other.cgroups};
  }
  GUEST_TRY(enter_namespaces(task, flags, in));
  return uint64_t{0};
}

ErrnoOr<uint64_t> sys_unshare(Task& task, Arguments a) {
  constexpr uint64_t kFs = 0x200, kFiles = 0x400, kSemUndo = 0x40000, kThread = 0x10000,
                     kHandlers = 0x800, kVm = 0x100;
  uint64_t flags = static_cast<uint32_t>(a[0]);
  constexpr uint64_t kHad = kNewNames | kNewIpc | kNewPids | kNewMounts | kNewUsers | kNewCgroups;
  constexpr uint64_t kAll = kHad | kNewNetwork | kNewTime;
  if ((flags & ~(kAll | kFs | kFiles | kSemUndo | kThread | kHandlers | kVm)) != 0)
    return Errno(EINVAL);
  if ((flags & kNewUsers) != 0) flags |= kThread | kFs;
  // Who has mounts of its own shares no root either.
  if ((flags & kNewMounts) != 0) flags |= kFs;
  if ((flags & (kThread | kHandlers | kVm)) != 0 && !is_alone(task)) return Errno(EINVAL);
  Credentials credentials = task.credentials;
  if ((flags & kNewUsers) != 0) credentials.enter(GUEST_TRY(new_users(task)));
  const UserSpacePtr& user = credentials.user;
  constexpr uint64_t kOthers = kAll & ~kNewUsers;
  if ((flags & kOthers) != 0 && !credentials.has(kCapSysAdmin)) return Errno(EPERM);
  // Those are not to be had.
  if ((flags & (kNewNetwork | kNewTime)) != 0) return Errno(EPERM);
  PidSpacePtr pids;
  std::shared_ptr<CgroupSpace> cgroups;
  std::shared_ptr<SysV> ipc;
  std::shared_ptr<SystemNames> uts;
  if ((flags & kNewPids) != 0) {
    if (task.pids_for_children && task.pids_for_children != task.process->pids)
      return Errno(EINVAL);
    pids = GUEST_TRY(task.kernel.new_pids(task.process->pids, user));
  }
  if ((flags & kNewCgroups) != 0) cgroups = GUEST_TRY(task.kernel.new_cgroups(user));
  if ((flags & kNewIpc) != 0) ipc = GUEST_TRY(task.kernel.new_sysv(user));
  if ((flags & kNewNames) != 0) {
    std::lock_guard lock(task.kernel.lock);
    uts = GUEST_TRY(task.kernel.new_names(task.names(), user));
  }
  if ((flags & kFs) != 0 && task.fs.use_count() > 1) {
    auto own = std::make_shared<FsContext>();
    {
      std::lock_guard lock(task.fs->lock);
      own->root = task.fs->root;
      own->cwd = task.fs->cwd;
      own->umask = task.fs->umask;
    }
    std::lock_guard lock(task.kernel.lock);
    task.fs.swap(own);
  }
  if ((flags & kNewMounts) != 0) {
    auto own = GUEST_TRY(copy_mounts(task, *task.fs, user));
    std::lock_guard lock(task.kernel.lock);
    task.mounts.swap(own);
  }
  {
    std::lock_guard lock(task.kernel.lock);
    if (uts) task.uts.swap(uts);
    if (pids) task.pids_for_children.swap(pids);
    if (cgroups) task.cgroups.swap(cgroups);
    if ((flags & kNewUsers) != 0) std::swap(task.credentials, credentials);
  }
  if (ipc) enter_ipc(task, std::move(ipc));
  if ((flags & kFiles) != 0 && task.files.use_count() > 1) {
    task.replace_files(task.files->copy());
  }
  return uint64_t{0};
}

}  // namespace fluyt::guest
