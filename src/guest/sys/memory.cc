#include <sys/mman.h>

#include "guest/sys/handlers.h"

namespace fluyt::guest {

ErrnoOr<uint64_t> sys_mmap(Task& task, Arguments a) {
  const int flags = as_int(a[3]);
  FilePtr file;
  if ((flags & MAP_ANONYMOUS) == 0) file = GUEST_TRY(task.files->get(as_int(a[4])));
  if (file && (file->flags() & 010000000) != 0) return Errno(EBADF);  // O_PATH
  return task.mm->map(a[0], a[1], as_int(a[2]), flags, file, a[5]);
}

ErrnoOr<uint64_t> sys_munmap(Task& task, Arguments a) {
  GUEST_TRY(task.mm->unmap(a[0], a[1]));
  return uint64_t{0};
}

ErrnoOr<uint64_t> sys_mprotect(Task& task, Arguments a) {
  GUEST_TRY(task.mm->protect(a[0], a[1], as_int(a[2])));
  return uint64_t{0};
}

ErrnoOr<uint64_t> sys_mremap(Task& task, Arguments a) {
  return task.mm->remap(a[0], a[1], a[2], as_int(a[3]), a[4]);
}

ErrnoOr<uint64_t> sys_madvise(Task& task, Arguments a) {
  GUEST_TRY(task.mm->advise(a[0], a[1], as_int(a[2])));
  return uint64_t{0};
}

ErrnoOr<uint64_t> sys_msync(Task& task, Arguments a) {
  const int flags = as_int(a[2]);
  if (a[0] % kPageSize != 0 || (flags & ~7) != 0 || (flags & 5) == 5) return Errno(EINVAL);
  GUEST_TRY(task.mm->check_mapped(a[0], (a[1] + kPageSize - 1) & ~(kPageSize - 1)));
  return uint64_t{0};
}

ErrnoOr<uint64_t> sys_mlock(Task& task, Arguments a) {
  const uint64_t start = a[0] & ~(kPageSize - 1);
  GUEST_TRY(task.mm->check_mapped(start, a[1] + (a[0] - start)));
  return uint64_t{0};
}

ErrnoOr<uint64_t> sys_munlock(Task& task, Arguments a) { return sys_mlock(task, a); }

ErrnoOr<uint64_t> sys_brk(Task& task, Arguments a) { return task.mm->set_break(a[0]); }

}  // namespace fluyt::guest
