#include <sys/mman.h>

#include <algorithm>

#include "guest/fs/charged_memory.h"
#include "guest/sys/handlers.h"

namespace fluyt::guest {
namespace {

/// RLIMIT_AS, and for private memory that can be written RLIMIT_DATA, after `growth` more bytes.
Errno within_limits(Task& task, uint64_t growth, bool data) {
  constexpr size_t kData = 2;
  constexpr size_t kAddressSpace = 9;
  Limit space;
  Limit private_data;
  {
    std::lock_guard lock(task.kernel.lock);
    space = task.process->limits[kAddressSpace];
    private_data = task.process->limits[kData];
  }
  const auto exceeds = [growth](uint64_t have, const Limit& limit) {
    return limit.soft != ~uint64_t{0} && (growth > limit.soft || have > limit.soft - growth);
  };
  if (space.soft != ~uint64_t{0} && exceeds(task.mm->mapped_bytes(), space)) return Errno(ENOMEM);
  if (data && private_data.soft != ~uint64_t{0} && exceeds(task.mm->data_bytes(), private_data))
    return Errno(ENOMEM);
  return kOk;
}

}  // namespace

ErrnoOr<uint64_t> sys_mmap(Task& task, Arguments a) {
  const int flags = as_int(a[3]);
  FilePtr file;
  if ((flags & MAP_ANONYMOUS) == 0) file = GUEST_TRY(task.files->get(as_int(a[4])));
  if (file && (file->flags() & 010000000) != 0) return Errno(EBADF);      // O_PATH
  const bool shared = (flags & 0xf) == MAP_SHARED || (flags & 0xf) == 3;  // MAP_SHARED_VALIDATE
  const bool anonymous = (flags & MAP_ANONYMOUS) != 0 || (file && file->maps_anonymous());
  GUEST_TRY(
      within_limits(task, a[1], (flags & MAP_PRIVATE) != 0 && (as_int(a[2]) & PROT_WRITE) != 0));
  if ((flags & MAP_ANONYMOUS) != 0 && (flags & 0xf) == 3) return Errno(EINVAL);
  if (shared && anonymous && a[1] != 0) {
    // What its processes share counts against the sandbox.
    const FilePtr memory = GUEST_TRY(make_shared_memory(a[1], task.memory_charge()));
    return task.mm->map(a[0], a[1], as_int(a[2]), flags & ~MAP_ANONYMOUS, memory, 0);
  }
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

// As on a processor that has no protection keys (pkeys(7)).
ErrnoOr<uint64_t> sys_pkey_mprotect(Task& task, Arguments a) {
  if (as_int(a[3]) != -1) return Errno(EINVAL);
  return sys_mprotect(task, a);
}
ErrnoOr<uint64_t> sys_pkey_alloc(Task&, Arguments a) {
  constexpr uint64_t kRights = 3;
  return Errno(a[0] != 0 || (a[1] & ~kRights) != 0 ? EINVAL : ENOSPC);
}
ErrnoOr<uint64_t> sys_pkey_free(Task&, Arguments) { return Errno(EINVAL); }

ErrnoOr<uint64_t> sys_mremap(Task& task, Arguments a) {
  if (a[2] > a[1]) GUEST_TRY(within_limits(task, a[2] - a[1], true));
  return task.mm->remap(a[0], a[1], a[2], as_int(a[3]), a[4]);
}

ErrnoOr<uint64_t> sys_madvise(Task& task, Arguments a) {
  GUEST_TRY(task.mm->advise(a[0], a[1], as_int(a[2])));
  return uint64_t{0};
}

ErrnoOr<uint64_t> sys_msync(Task& task, Arguments a) {
  const int flags = as_int(a[2]);
  if (a[0] % kPageSize != 0 || (flags & ~7) != 0 || (flags & 5) == 5) return Errno(EINVAL);
  const uint64_t length = (a[1] + kPageSize - 1) & ~(kPageSize - 1);
  GUEST_TRY(task.mm->check_mapped(a[0], length));
  if ((flags & MS_SYNC) == 0) return uint64_t{0};
  for (const FilePtr& file : task.mm->shared_files(a[0], a[0] + length)) GUEST_TRY(file->sync());
  return uint64_t{0};
}

ErrnoOr<uint64_t> sys_mlock(Task& task, Arguments a) {
  const uint64_t start = a[0] & ~(kPageSize - 1);
  GUEST_TRY(task.mm->check_mapped(start, a[1] + (a[0] - start)));
  return uint64_t{0};
}

ErrnoOr<uint64_t> sys_mlock2(Task& task, Arguments a) {
  constexpr uint64_t kOnFault = 1;
  if ((a[2] & ~kOnFault) != 0) return Errno(EINVAL);
  return sys_mlock(task, a);
}

ErrnoOr<uint64_t> sys_mlockall(Task&, Arguments a) {
  constexpr int kOnFault = 4;
  const int flags = as_int(a[0]);
  if ((flags & ~(MCL_CURRENT | MCL_FUTURE | kOnFault)) != 0 || flags == 0 || flags == kOnFault)
    return Errno(EINVAL);
  return uint64_t{0};
}

ErrnoOr<uint64_t> sys_munlockall(Task&, Arguments) { return uint64_t{0}; }

ErrnoOr<uint64_t> sys_munlock(Task& task, Arguments a) { return sys_mlock(task, a); }

ErrnoOr<uint64_t> sys_brk(Task& task, Arguments a) {
  const uint64_t now = task.mm->set_break(0);
  if (a[0] > now && !within_limits(task, a[0] - now, true).ok()) return now;
  return task.mm->set_break(a[0]);
}

ErrnoOr<uint64_t> sys_mincore(Task& task, Arguments a) {
  // Which pages the host holds is nobody's business: what is mapped counts as there.
  if (a[0] % kPageSize != 0) return Errno(EINVAL);
  const uint64_t pages = a[1] / kPageSize + (a[1] % kPageSize != 0 ? 1 : 0);
  if (pages > kGuestTop / kPageSize) return Errno(ENOMEM);
  GUEST_TRY(task.mm->check_mapped(a[0], pages * kPageSize));
  const std::vector<std::byte> there(kPageSize, std::byte{1});
  for (uint64_t done = 0; done < pages; done += there.size()) {
    const size_t step = std::min<uint64_t>(pages - done, there.size());
    GUEST_TRY(task.copy_out(a[2] + done, std::span(there).first(step)));
  }
  return uint64_t{0};
}

}  // namespace fluyt::guest
