#include "guest/sys/pidfd.h"

#include <fcntl.h>
#include <poll.h>
#include <signal.h>

#include <algorithm>
#include <optional>

#include "guest/fs/devices.h"
#include "guest/sys/handlers.h"

namespace fluyt::guest {
namespace {

/// pidfd_open(2): a process by descriptor; ready to be read when it has ended.
class PidFile final : public File {
 public:
  PidFile(ProcessPtr of, int flags)
      : File(nullptr, make_anonymous_inode(0600, 0), O_RDWR | flags), process(std::move(of)) {}
  uint32_t ready(uint32_t /*wanted*/) override {
    // Without the kernel's lock: it is held by who wakes those that ask here.
    return process->has_ended.load() ? POLLIN | POLLRDNORM : 0;
  }
  WaitQueue* queue() override { return &process->ended; }
  std::string describe() const override { return "anon_inode:[pidfd]"; }

  const ProcessPtr process;
};

/// For signals a folder of /proc names a process as well.
ErrnoOr<ProcessPtr> signalled_process(Task& task, int fd) {
  ErrnoOr<ProcessPtr> process = process_of(task, fd);
  if (process.ok()) return process;
  const FilePtr file = GUEST_TRY(task.files->get(fd));
  auto shown =
      std::static_pointer_cast<Process>(file->inode() ? file->inode()->process() : nullptr);
  if (!shown) return process;
  return shown;
}

}  // namespace

FilePtr make_pid_file(ProcessPtr process, int flags) {
  return std::make_shared<PidFile>(std::move(process), flags);
}

ErrnoOr<ProcessPtr> process_of(Task& task, int fd, bool* nonblocking) {
  const FilePtr file = GUEST_TRY(task.files->get(fd));
  const auto* pid_file = dynamic_cast<const PidFile*>(file.get());
  if (pid_file == nullptr) return Errno(EBADF);
  if (nonblocking != nullptr) *nonblocking = file->nonblocking();
  return pid_file->process;
}

ErrnoOr<uint64_t> sys_pidfd_open(Task& task, Arguments a) {
  const int32_t pid = as_int(a[0]);
  if (pid <= 0 || (as_int(a[1]) & ~O_NONBLOCK) != 0) return Errno(EINVAL);
  ProcessPtr process;
  {
    std::lock_guard lock(task.kernel.lock);
    const int32_t id = task.meant(pid);
    process = task.kernel.find_process(id);
    if (!process) return Errno(task.kernel.tasks.contains(id) ? ENOENT : ESRCH);
  }
  return add_file(task, make_pid_file(std::move(process), as_int(a[1])), true);
}

ErrnoOr<uint64_t> sys_pidfd_send_signal(Task& task, Arguments a) {
  const int signal = as_int(a[1]);
  if (static_cast<uint32_t>(a[3]) != 0) return Errno(EINVAL);
  const ProcessPtr process = GUEST_TRY(signalled_process(task, as_int(a[0])));
  std::optional<SignalInfo> given;
  if (a[2] != 0) {
    const auto info = GUEST_TRY(task.get<SignalInfo>(a[2]));
    if (info.signo != signal) return Errno(EINVAL);
    if ((info.code >= 0 || info.code == SI_TKILL) && process != task.process) return Errno(EPERM);
    given = info;
  }
  if (signal < 0 || signal > kSignals) return Errno(EINVAL);
  std::lock_guard lock(task.kernel.lock);
  if (task.kernel.find_process(process->pid) != process) return Errno(ESRCH);
  // Signals go down into namespaces, not up or across.
  if (!process->pids->is_within(*task.process->pids)) return Errno(EINVAL);
  GUEST_TRY(task.kernel.may_signal(task, *process, signal));
  if (signal != 0)
    task.kernel.send(*process, given ? *given : signal_from(task, *process, signal, SI_USER));
  return uint64_t{0};
}

ErrnoOr<uint64_t> sys_pidfd_getfd(Task& task, Arguments a) {
  if (static_cast<uint32_t>(a[2]) != 0) return Errno(EINVAL);
  const ProcessPtr process = GUEST_TRY(process_of(task, as_int(a[0])));
  std::shared_ptr<FdTable> files;
  {
    std::lock_guard lock(task.kernel.lock);
    if (process->threads.empty()) return Errno(ESRCH);
    const Task& other = *process->threads.front();
    if (!may_look_into(task, other, LookBy::kRealIds)) return Errno(EPERM);
    files = other.files;
  }
  if (!files) return Errno(ESRCH);
  FilePtr file = GUEST_TRY(files->get(as_int(a[1])));
  return add_file(task, std::move(file), true);
}

namespace {

/// process_vm_readv(2) and its like: from the pieces of one address space to those of another.
ErrnoOr<uint64_t> copy_between(Task& task, Arguments a, bool reading) {
  if (a[5] != 0) return Errno(EINVAL);
  std::vector<IoVector> local = GUEST_TRY(get_vectors(task, a[1], a[2]));
  std::vector<IoVector> remote = GUEST_TRY(get_vectors(task, a[3], a[4]));
  std::shared_ptr<Mm> other;
  {
    std::lock_guard lock(task.kernel.lock);
    const auto found = task.kernel.tasks.find(task.meant(as_int(a[0])));
    if (found == task.kernel.tasks.end()) return Errno(ESRCH);
    if (!may_look_into(task, *found->second, LookBy::kRealIds)) return Errno(EPERM);
    other = found->second->mm;
  }
  if (!other) return Errno(ESRCH);
  AddressSpace& from = reading ? other->space() : task.mm->space();
  AddressSpace& to = reading ? task.mm->space() : other->space();
  std::vector<IoVector>& sources = reading ? remote : local;
  std::vector<IoVector>& targets = reading ? local : remote;
  std::byte buffer[16384];
  uint64_t done = 0;
  size_t source = 0;
  size_t target = 0;
  while (source < sources.size() && target < targets.size()) {
    IoVector& here = sources[source];
    IoVector& there = targets[target];
    const size_t step = std::min({sizeof buffer, here.length, there.length});
    if (step != 0) {
      if (task.is_ending()) return done;
      const size_t got = from.read(here.base, std::span(buffer).first(step));
      const size_t put = to.write(there.base, std::span(buffer).first(got));
      done += put;
      if (put < step) return done != 0 ? ErrnoOr<uint64_t>(done) : Errno(EFAULT);
      here = {here.base + step, here.length - step};
      there = {there.base + step, there.length - step};
    }
    if (here.length == 0) ++source;
    if (there.length == 0) ++target;
  }
  return done;
}

}  // namespace

ErrnoOr<uint64_t> sys_process_vm_readv(Task& task, Arguments a) {
  return copy_between(task, a, true);
}
ErrnoOr<uint64_t> sys_process_vm_writev(Task& task, Arguments a) {
  return copy_between(task, a, false);
}

ErrnoOr<uint64_t> sys_kcmp(Task& task, Arguments a) {
  enum : int { kFile, kVm, kFiles, kFs, kSighand, kIo, kSysvsem };
  const int what = as_int(a[2]);
  // Held until they are compared.
  std::shared_ptr<const void> found[2];
  std::shared_ptr<FdTable> files[2];
  {
    std::lock_guard lock(task.kernel.lock);
    for (int i = 0; i < 2; ++i) {
      const auto one = task.kernel.tasks.find(task.meant(as_int(a[i])));
      if (one == task.kernel.tasks.end()) return Errno(ESRCH);
      const Task& other = *one->second;
      if (!may_look_into(task, other, LookBy::kRealIds)) return Errno(EPERM);
      files[i] = other.files;
      switch (what) {
        case kFile:
        case kFiles:
          found[i] = other.files;
          break;
        case kVm:
          found[i] = other.mm;
          break;
        case kFs:
          found[i] = other.fs;
          break;
        case kSighand:
          found[i] = other.process->actions;
          break;
        case kSysvsem:  // processes never share them
          found[i] = other.process;
          break;
        default:
          return Errno(what == kIo ? EOPNOTSUPP : EINVAL);
      }
    }
  }
  if (what == kFile)
    for (int i = 0; i < 2; ++i) {
      if (!files[i]) return Errno(EBADF);
      found[i] = GUEST_TRY(files[i]->get(as_int(a[3 + i])));
    }
  // An order of no meaning that tells nothing of addresses: equal, or not to be compared.
  return uint64_t{found[0] == found[1] ? 0U : 3U};
}

ErrnoOr<uint64_t> sys_ptrace(Task&, Arguments) {
  // Nobody traces here: what Linux says where a security module forbids it.
  return Errno(EPERM);
}

}  // namespace fluyt::guest
