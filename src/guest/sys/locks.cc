#include "guest/vfs/locks.h"

#include <fcntl.h>
#include <sys/file.h>
#include <unistd.h>

#include "guest/sys/handlers.h"

namespace fluyt::guest {
namespace {

/// struct flock of x86-64.
struct GuestLock {
  int16_t type = 0;
  int16_t whence = 0;
  int32_t padding = 0;
  int64_t start = 0;
  int64_t length = 0;
  int32_t pid = 0;
  int32_t padding_behind = 0;
};
static_assert(sizeof(GuestLock) == 32);

ErrnoOr<FileLocks::Key> key_of(File& file) {
  const Stat stat = GUEST_TRY(file.stat());
  return FileLocks::Key{stat.dev, stat.ino};
}

/// The range that a structure speaks of (fcntl_locking(2)).
Errno find_range(File& file, const GuestLock& lock, FileLocks::Range& out) {
  int64_t base = 0;
  switch (lock.whence) {
    case SEEK_SET:
      break;
    case SEEK_CUR: {
      std::lock_guard guard(file.position_lock);
      base = file.position;
      break;
    }
    case SEEK_END: {
      const Stat stat = GUEST_TRY(file.stat());
      base = stat.size;
      break;
    }
    default:
      return Errno(EINVAL);
  }
  int64_t start = 0;
  if (__builtin_add_overflow(base, lock.start, &start)) return Errno(EOVERFLOW);
  if (start < 0) return Errno(EINVAL);
  out.first = start;
  out.last = FileLocks::kEnd;
  if (lock.length > 0) {
    if (__builtin_add_overflow(start, lock.length - 1, &out.last)) return Errno(EOVERFLOW);
  } else if (lock.length < 0) {
    if (start + lock.length < 0) return Errno(EINVAL);
    out.first = start + lock.length;
    out.last = start - 1;
  }
  return kOk;
}

}  // namespace

ErrnoOr<uint64_t> control_lock(Task& task, const FilePtr& file, int command, uint64_t address) {
  const bool of_description =
      command == F_OFD_GETLK || command == F_OFD_SETLK || command == F_OFD_SETLKW;
  const bool asks = command == F_GETLK || command == F_OFD_GETLK;
  const bool waits = command == F_SETLKW || command == F_OFD_SETLKW;
  GuestLock lock = GUEST_TRY(task.get<GuestLock>(address));
  if ((file->flags() & O_PATH) != 0) return Errno(EBADF);
  if (lock.type != F_RDLCK && lock.type != F_WRLCK && (lock.type != F_UNLCK || asks))
    return Errno(EINVAL);
  if (of_description && lock.pid != 0) return Errno(EINVAL);
  FileLocks::Range range;
  GUEST_TRY(find_range(*file, lock, range));
  range.kind = of_description ? FileLocks::Kind::kDescription : FileLocks::Kind::kProcess;
  range.owner = of_description ? static_cast<const void*>(file.get()) : task.files.get();
  range.mode = lock.type == F_WRLCK ? FileLocks::Mode::kWrite : FileLocks::Mode::kRead;
  range.pid = task.process->pid;
  FileLocks& locks = task.kernel.file_locks;
  const FileLocks::Key key = GUEST_TRY(key_of(*file));
  if (asks) {
    const std::optional<FileLocks::Range> held = locks.find_conflict(key, range);
    if (held) {
      lock.type = held->mode == FileLocks::Mode::kWrite ? F_WRLCK : F_RDLCK;
      lock.whence = SEEK_SET;
      lock.start = held->first;
      lock.length = held->last == FileLocks::kEnd ? 0 : held->last - held->first + 1;
      lock.pid = held->kind == FileLocks::Kind::kDescription ? -1 : task.shown(held->pid);
    } else {
      lock.type = F_UNLCK;
    }
    GUEST_TRY(task.put(address, lock));
    return uint64_t{0};
  }
  if (lock.type == F_UNLCK) {
    locks.unlock(key, range.owner, range.first, range.last);
    return uint64_t{0};
  }
  if (range.mode == FileLocks::Mode::kRead ? !file->readable() : !file->writable())
    return Errno(EBADF);
  if (of_description)
    file->held_locks = &locks;
  else
    task.files->hold_locks(locks);
  GUEST_TRY(locks.lock(key, range, waits ? &task.sleeper : nullptr));
  return uint64_t{0};
}

ErrnoOr<uint64_t> sys_flock(Task& task, Arguments a) {
  const FilePtr file = GUEST_TRY(task.files->get(as_int(a[0])));
  const int operation = as_int(a[1]) & ~LOCK_NB;
  if (operation != LOCK_SH && operation != LOCK_EX && operation != LOCK_UN) return Errno(EINVAL);
  if ((file->flags() & O_PATH) != 0) return Errno(EBADF);
  FileLocks& locks = task.kernel.file_locks;
  const FileLocks::Key key = GUEST_TRY(key_of(*file));
  if (operation == LOCK_UN) {
    locks.unlock_whole(key, file.get());
    return uint64_t{0};
  }
  file->held_locks = &locks;
  GUEST_TRY(locks.lock_whole(
      key, file.get(), operation == LOCK_EX ? FileLocks::Mode::kWrite : FileLocks::Mode::kRead,
      task.process->pid, (as_int(a[1]) & LOCK_NB) != 0 ? nullptr : &task.sleeper));
  return uint64_t{0};
}

}  // namespace fluyt::guest
