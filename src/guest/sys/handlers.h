#pragma once

#include "guest/sys/table.h"

namespace fluyt::guest {

#define CALL(number, name, support, arguments, missing) \
  ErrnoOr<uint64_t> sys_##name(Task& task, Arguments a);
#include "guest/sys/calls.inc"
#undef CALL

// What several families need.
inline int as_int(uint64_t value) { return static_cast<int>(value); }
inline constexpr int kAtCwd = -100;

/// Where a path of an ...at call starts.
ErrnoOr<WalkFrom> walk_from(Task& task, int dirfd, const std::string& path);
/// A file, and where it was found: null for what has no name.
struct NamedFile {
  DentryPtr path;
  InodePtr inode;
};
/// The file that dirfd and path name; an empty path with AT_EMPTY_PATH is dirfd itself.
ErrnoOr<NamedFile> named_file(Task& task, int dirfd, uint64_t path, int flags);
ErrnoOr<InodePtr> named_inode(Task& task, int dirfd, uint64_t path, int flags);
/// EROFS: it lies in a mount that is to be read alone.
Errno may_be_changed(Task& task, const NamedFile& file);
/// Something of it was changed: IN_* of inotify(7).
void tell_changed(Task& task, const NamedFile& file, uint32_t event);

/// The most that one call moves (read(2), NOTES).
inline constexpr uint64_t kMaxTransfer = 0x7ffff000;
/// iovec of the guest.
struct IoVector {
  uint64_t base = 0;
  uint64_t length = 0;
};
inline constexpr uint64_t kMaxVectors = 1024;  // UIO_MAXIOV
/// Those at an address, cut where they are more together than one call moves. EINVAL for too many,
/// and for a length that is negative as ssize_t.
ErrnoOr<std::vector<IoVector>> get_vectors(Task& task, uint64_t address, uint64_t count);

/// timespec of the guest: EINVAL when it is none.
struct GuestTime {
  int64_t seconds = 0;
  int64_t nanoseconds = 0;
};
ErrnoOr<GuestTime> get_time(Task& task, uint64_t address);
struct GuestInterval {
  GuestTime interval;
  GuestTime value;
};
int64_t in_ns(const GuestTime& time);
GuestTime from_ns(int64_t ns);
/// From now on; saturates.
Clock::time_point after_ns(int64_t ns);

/// Makes the given signals deliverable for a wait (sigsuspend, ppoll): restored behind the handler.
void swap_mask(Task& task, SignalSet mask);
/// The wait ended without a signal: the old mask at once.
void unswap_mask(Task& task);

/// Under another mask for the time of the wait; an address of 0: under the one that is set.
template <class Wait>
ErrnoOr<uint64_t> with_mask(Task& task, uint64_t address, uint64_t size, Wait wait) {
  if (address == 0) return wait();
  if (size != 8) return Errno(EINVAL);
  const SignalSet mask = GUEST_TRY(task.get<SignalSet>(address));
  swap_mask(task, mask);
  ErrnoOr<uint64_t> done = wait();
  if (done.ok() || done.error().value() < kRestartSys) unswap_mask(task);
  return done;
}
/// A relative timespec; an address of 0 is for ever.
ErrnoOr<Deadline> deadline_of(Task& task, uint64_t address);
// seccomp(2), which prctl(2) does as well.
ErrnoOr<uint64_t> set_seccomp_strict(Task& task);
ErrnoOr<uint64_t> set_seccomp_filter(Task& task, uint32_t flags, uint64_t program);

/// struct rusage, of which processor time is all that is known.
std::array<int64_t, 18> resource_usage(const Usage& usage);

/// struct iovec.
class Socket;
ErrnoOr<uint64_t> read_socket(Task& task, Socket& socket, std::span<const IoVector> vectors);
ErrnoOr<uint64_t> write_socket(Task& task, Socket& socket, std::span<const IoVector> vectors);

/// What write(2) does with bytes that are at hand, by any call: as many as RLIMIT_FSIZE lets, and
/// the signal that comes with EFBIG or EPIPE. `offset` is of a file that has positions.
ErrnoOr<size_t> write_bytes(Task& task, File& file, std::span<const std::byte> from,
                            int64_t* offset);
/// EFBIG, with its signal: a regular file must not become as long as that.
Errno may_become(Task& task, Inode& inode, uint64_t size);

/// fcntl's F_GETLK, F_SETLK, F_SETLKW and those of open file descriptions.
ErrnoOr<uint64_t> control_lock(Task& task, const FilePtr& file, int command, uint64_t address);

/// Of the caller's mount namespace, with `fs` moved into it. It belongs to the user namespace `of`.
ErrnoOr<std::shared_ptr<MountSpace>> copy_mounts(Task& task, FsContext& fs, const UserSpacePtr& of);
/// One that the caller or its child is to enter. EPERM: the caller's root is not its mount
/// namespace's, or it has no ids in its own user namespace; ENOSPC: there are too many, or too
/// deep.
ErrnoOr<UserSpacePtr> new_users(Task& task);

/// A file's, as the caller's user namespace has its owners.
inline Stat shown(const Task& task, Stat stat) {
  stat.uid = task.credentials.shown_uid(stat.uid);
  stat.gid = task.credentials.shown_gid(stat.gid);
  return stat;
}

ErrnoOr<uint64_t> add_file(Task& task, FilePtr file, bool close_on_exec);

}  // namespace fluyt::guest
