#include <fcntl.h>
#include <sys/inotify.h>
#include <sys/stat.h>

#include <algorithm>

#include "guest/fs/devices.h"
#include "guest/platform/host/io.h"
#include "guest/sys/handlers.h"

namespace fluyt::guest {
namespace {

constexpr int kEmptyPath = 0x1000;

LastLink last_link(int flags) {
  return (flags & AT_SYMLINK_NOFOLLOW) != 0 ? LastLink::kKeep : LastLink::kFollow;
}

uint32_t masked(Task& task, uint64_t mode) {
  std::lock_guard lock(task.fs->lock);
  return static_cast<uint32_t>(mode) & 07777 & ~task.fs->umask;
}

constexpr int kTmpFile = 020000000;  // O_TMPFILE without its O_DIRECTORY

/// Where openat2(2) starts: what it does not leave, where it is not to.
ErrnoOr<WalkFrom> open_from(Task& task, int dirfd, const std::string& path, uint32_t resolve) {
  constexpr uint32_t kScoped = kResolveBeneath | kResolveInRoot;
  if ((resolve & kScoped) == 0) {
    WalkFrom from = GUEST_TRY(walk_from(task, dirfd, path));
    from.resolve = resolve;
    return from;
  }
  // An absolute path starts at the descriptor as well.
  WalkFrom from = GUEST_TRY(walk_from(task, dirfd, "."));
  if (!from.base->inode->is_dir()) return Errno(ENOTDIR);
  from.root = from.base;
  from.resolve = resolve;
  return from;
}

ErrnoOr<uint64_t> open_at(Task& task, int dirfd, uint64_t address, int flags, uint64_t mode,
                          uint32_t resolve = 0) {
  if ((flags & O_ACCMODE) == O_ACCMODE) return Errno(EINVAL);
  const bool unnamed = (flags & kTmpFile) != 0 && (flags & O_PATH) == 0;
  if (unnamed) {
    if ((flags & O_DIRECTORY) == 0 || (flags & O_CREAT) != 0 || (flags & O_ACCMODE) == O_RDONLY)
      return Errno(EINVAL);
  }
  if ((flags & O_CREAT) != 0 && (flags & O_DIRECTORY) != 0) return Errno(EINVAL);
  const std::string path = GUEST_TRY(task.get_path(address));
  GUEST_TRY(task.files->has_room());
  const WalkFrom from = GUEST_TRY(open_from(task, dirfd, path, resolve));
  Tree& tree = *task.kernel.tree;
  Tree::Opened opened = unnamed
                            ? GUEST_TRY(tree.open_unnamed(from, path, flags, masked(task, mode)))
                            : GUEST_TRY(tree.open(from, path, flags, masked(task, mode)));
  Caller caller = task.caller();
  if ((flags & O_PATH) == 0) {
    FilePtr other = GUEST_TRY(opened.file->finish_open(caller));
    if (other) opened.file = std::move(other);
    opened.file->tell_opened(task.kernel.tree->watches);
    if (opened.truncated) opened.file->tell(IN_MODIFY);
  }
  return add_file(task, std::move(opened.file), (flags & O_CLOEXEC) != 0);
}

ErrnoOr<Stat> stat_at(Task& task, int dirfd, uint64_t address, int flags) {
  if ((flags & ~(AT_SYMLINK_NOFOLLOW | kEmptyPath | 0x800 | 0x6000)) != 0) return Errno(EINVAL);
  const std::string path = GUEST_TRY(task.get_path(address));
  if (path.empty() && (flags & kEmptyPath) != 0 && dirfd != kAtCwd) {
    const FilePtr file = GUEST_TRY(task.files->get(dirfd));
    return file->stat();
  }
  const InodePtr inode = GUEST_TRY(named_inode(task, dirfd, address, flags));
  return inode->stat();
}

ErrnoOr<uint64_t> access_at(Task& task, int dirfd, uint64_t address, int mode, int flags) {
  if ((mode & ~7) != 0 || (flags & ~(0x200 | AT_SYMLINK_NOFOLLOW | kEmptyPath)) != 0)
    return Errno(EINVAL);
  const std::string path = GUEST_TRY(task.get_path(address));
  WalkFrom from = GUEST_TRY(walk_from(task, dirfd, path));
  Credentials who = task.credentials;
  if ((flags & 0x200) == 0) {  // AT_EACCESS
    who.fsuid = who.uid;
    who.fsgid = who.gid;
    if ((who.secure_bits & kSecureNoSetuidFixup) == 0)
      who.effective = who.uid == who.root() ? who.permitted : 0;
  }
  const WalkFrom as{from.root, from.base, who};
  DentryPtr found;
  if (path.empty() && (flags & kEmptyPath) != 0)
    found = from.base;
  else
    found = GUEST_TRY(task.kernel.tree->find(as, path, last_link(flags)));
  if (mode == 0) return uint64_t{0};
  const Stat stat = GUEST_TRY(found->inode->stat());
  GUEST_TRY(may_access(who, stat, mode));
  const bool special =
      S_ISCHR(stat.mode) || S_ISBLK(stat.mode) || S_ISFIFO(stat.mode) || S_ISSOCK(stat.mode);
  if ((mode & 2) != 0 && !special && task.kernel.tree->is_read_only(found)) return Errno(EROFS);
  return uint64_t{0};
}

ErrnoOr<uint64_t> readlink_at(Task& task, int dirfd, uint64_t address, uint64_t to, uint64_t size) {
  if (as_int(size) <= 0) return Errno(EINVAL);
  const std::string path = GUEST_TRY(task.get_path(address));
  InodePtr inode;
  if (path.empty()) {
    const FilePtr file = GUEST_TRY(task.files->get(dirfd));
    inode = file->inode();
    if (!inode->is_link()) return Errno(ENOENT);
  } else {
    const WalkFrom from = GUEST_TRY(walk_from(task, dirfd, path));
    const DentryPtr found = GUEST_TRY(task.kernel.tree->find(from, path, LastLink::kKeep));
    inode = found->inode;
  }
  if (!inode->is_link()) return Errno(EINVAL);
  const std::string target = GUEST_TRY(inode->readlink());
  const size_t length = std::min<size_t>(target.size(), size);
  GUEST_TRY(task.copy_out(to, std::as_bytes(std::span(target)).first(length)));
  return uint64_t{length};
}

/// Only an owner, or who may act for it.
Errno may_own(const Credentials& who, const Stat& stat) {
  return who.fsuid == stat.uid || who.can_over_owner(kCapFowner, stat.uid) ? kOk : Errno(EPERM);
}

Errno change_mode(Task& task, const NamedFile& file, uint32_t mode) {
  GUEST_TRY(may_be_changed(task, file));
  const Stat stat = GUEST_TRY(file.inode->stat());
  GUEST_TRY(may_own(task.credentials, stat));
  if (!task.credentials.in_group(stat.gid) &&
      !task.credentials.can_over(kCapFowner, stat.uid, stat.gid))
    mode &= ~uint32_t{S_ISGID};
  SetAttributes change;
  change.mode = mode & 07777;
  GUEST_TRY(file.inode->set_attributes(change));
  tell_changed(task, file, IN_ATTRIB);
  return kOk;
}

Errno change_owner(Task& task, const NamedFile& file, uint32_t uid, uint32_t gid) {
  GUEST_TRY(may_be_changed(task, file));
  Inode& inode = *file.inode;
  const Stat stat = GUEST_TRY(inode.stat());
  const Credentials& who = task.credentials;
  SetAttributes change;
  if (uid != kNoId) change.uid = task.kernel_uid(uid);
  if (gid != kNoId) change.gid = task.kernel_gid(gid);
  if (change.uid == kNoId || change.gid == kNoId) return Errno(EINVAL);
  if (!who.can_over(kCapChown, stat.uid, stat.gid)) {
    if (change.uid && change.uid != stat.uid) return Errno(EPERM);
    if (who.fsuid != stat.uid) return Errno(EPERM);
    if (change.gid && change.gid != stat.gid && !who.in_group(*change.gid)) return Errno(EPERM);
  }
  GUEST_TRY(inode.set_attributes(change));
  if (S_ISREG(stat.mode) && (stat.mode & (S_ISUID | S_ISGID)) != 0 && (stat.mode & 0111) != 0) {
    SetAttributes dropped;
    dropped.mode = stat.mode & 07777 & ~uint32_t{S_ISUID | S_ISGID};
    GUEST_TRY(inode.set_attributes(dropped));
    change.mode = dropped.mode;
  }
  if (change.uid || change.gid || change.mode) tell_changed(task, file, IN_ATTRIB);
  return kOk;
}

ErrnoOr<uint64_t> make_at(Task& task, int dirfd, uint64_t address, uint32_t type, uint64_t mode,
                          uint64_t device) {
  const std::string path = GUEST_TRY(task.get_path(address));
  const WalkFrom from = GUEST_TRY(walk_from(task, dirfd, path));
  GUEST_TRY(task.kernel.tree->make(from, path, type | masked(task, mode), device));
  return uint64_t{0};
}

ErrnoOr<uint64_t> remove_at(Task& task, int dirfd, uint64_t address, bool dir) {
  const std::string path = GUEST_TRY(task.get_path(address));
  const WalkFrom from = GUEST_TRY(walk_from(task, dirfd, path));
  GUEST_TRY(task.kernel.tree->remove(from, path, dir));
  return uint64_t{0};
}

ErrnoOr<uint64_t> rename_at(Task& task, int old_fd, uint64_t old_path, int new_fd,
                            uint64_t new_path, int flags) {
  const std::string from_path = GUEST_TRY(task.get_path(old_path));
  const std::string to_path = GUEST_TRY(task.get_path(new_path));
  const WalkFrom from = GUEST_TRY(walk_from(task, old_fd, from_path));
  const WalkFrom to = GUEST_TRY(walk_from(task, new_fd, to_path));
  GUEST_TRY(task.kernel.tree->rename(from, from_path, to, to_path, flags));
  return uint64_t{0};
}

ErrnoOr<uint64_t> link_at(Task& task, int old_fd, uint64_t old_path, int new_fd, uint64_t new_path,
                          int flags) {
  if ((flags & ~(AT_SYMLINK_FOLLOW | kEmptyPath)) != 0) return Errno(EINVAL);
  const std::string from_path = GUEST_TRY(task.get_path(old_path));
  const std::string to_path = GUEST_TRY(task.get_path(new_path));
  DentryPtr what;
  if (from_path.empty() && (flags & kEmptyPath) != 0) {
    const FilePtr file = GUEST_TRY(task.files->get(old_fd));
    what = file->path();
    if (!what) return Errno(EXDEV);
  } else {
    const WalkFrom from = GUEST_TRY(walk_from(task, old_fd, from_path));
    what = GUEST_TRY(task.kernel.tree->find(
        from, from_path, (flags & AT_SYMLINK_FOLLOW) != 0 ? LastLink::kFollow : LastLink::kKeep));
  }
  const WalkFrom to = GUEST_TRY(walk_from(task, new_fd, to_path));
  GUEST_TRY(task.kernel.tree->link(what, to, to_path));
  return uint64_t{0};
}

ErrnoOr<uint64_t> symlink_at(Task& task, uint64_t target, int dirfd, uint64_t address) {
  const std::string text = GUEST_TRY(task.get_path(target));
  const std::string path = GUEST_TRY(task.get_path(address));
  const WalkFrom from = GUEST_TRY(walk_from(task, dirfd, path));
  GUEST_TRY(task.kernel.tree->symlink(from, path, text));
  return uint64_t{0};
}

Errno change_dir(Task& task, const DentryPtr& to) {
  if (!to->inode->is_dir()) return Errno(ENOTDIR);
  const Stat stat = GUEST_TRY(to->inode->stat());
  GUEST_TRY(may_access(task.credentials, stat, 1));
  std::lock_guard lock(task.fs->lock);
  task.fs->cwd = to;
  return kOk;
}

}  // namespace

ErrnoOr<WalkFrom> walk_from(Task& task, int dirfd, const std::string& path) {
  if (dirfd == kAtCwd || (!path.empty() && path[0] == '/')) return task.walk_from();
  const FilePtr file = GUEST_TRY(task.files->get(dirfd));
  if (!file->path()) return Errno(ENOTDIR);
  return task.walk_from(file->path());
}

ErrnoOr<NamedFile> named_file(Task& task, int dirfd, uint64_t address, int flags) {
  const std::string path = GUEST_TRY(task.get_path(address));
  if (path.empty() && (flags & kEmptyPath) != 0) {
    if (dirfd == kAtCwd) {
      std::lock_guard lock(task.fs->lock);
      return NamedFile{task.fs->cwd, task.fs->cwd->inode};
    }
    const FilePtr file = GUEST_TRY(task.files->get(dirfd));
    return NamedFile{file->path(), file->inode()};
  }
  const WalkFrom from = GUEST_TRY(walk_from(task, dirfd, path));
  const DentryPtr found = GUEST_TRY(task.kernel.tree->find(from, path, last_link(flags)));
  return NamedFile{found, found->inode};
}

ErrnoOr<InodePtr> named_inode(Task& task, int dirfd, uint64_t address, int flags) {
  const NamedFile file = GUEST_TRY(named_file(task, dirfd, address, flags));
  return file.inode;
}

Errno may_be_changed(Task& task, const NamedFile& file) {
  return file.path && task.kernel.tree->is_read_only(file.path) ? Errno(EROFS) : kOk;
}

void tell_changed(Task& task, const NamedFile& file, uint32_t event) {
  Watches& watches = *task.kernel.tree->watches;
  if (file.path && watches.any()) watches.tell(file.path, event, Watches::By::kName);
}

ErrnoOr<uint64_t> sys_open(Task& task, Arguments a) {
  return open_at(task, kAtCwd, a[0], as_int(a[1]), a[2]);
}
ErrnoOr<uint64_t> sys_openat(Task& task, Arguments a) {
  return open_at(task, as_int(a[0]), a[1], as_int(a[2]), a[3]);
}
ErrnoOr<uint64_t> sys_openat2(Task& task, Arguments a) {
  struct How {
    uint64_t flags, mode, resolve;
  };
  if (a[3] < sizeof(How)) return Errno(EINVAL);
  if (a[3] > kPageSize) return Errno(E2BIG);
  std::vector<std::byte> raw(a[3]);
  GUEST_TRY(task.copy_in(a[2], raw));
  if (std::any_of(raw.begin() + sizeof(How), raw.end(),
                  [](std::byte byte) { return byte != std::byte{0}; }))
    return Errno(E2BIG);
  How how{};
  std::copy_n(raw.data(), sizeof how, std::as_writable_bytes(std::span(&how, 1)).data());
  constexpr uint64_t kFlags = O_ACCMODE | O_CREAT | O_EXCL | O_NOCTTY | O_TRUNC | O_APPEND |
                              O_NONBLOCK | O_DSYNC | O_ASYNC | O_DIRECT | 0100000 /* O_LARGEFILE */
                              | O_DIRECTORY | O_NOFOLLOW | O_NOATIME | O_CLOEXEC | O_SYNC | O_PATH |
                              kTmpFile;
  constexpr uint64_t kResolve = kResolveNoXdev | kResolveNoMagicLinks | kResolveNoSymlinks |
                                kResolveBeneath | kResolveInRoot | kResolveCached;
  constexpr uint64_t kWithPath = O_DIRECTORY | O_NOFOLLOW | O_PATH | O_CLOEXEC;
  if ((how.flags & ~kFlags) != 0 || (how.resolve & ~kResolve) != 0) return Errno(EINVAL);
  if ((how.resolve & kResolveBeneath) != 0 && (how.resolve & kResolveInRoot) != 0)
    return Errno(EINVAL);
  const bool makes = (how.flags & (O_CREAT | kTmpFile)) != 0;
  if (makes ? (how.mode & ~uint64_t{07777}) != 0 : how.mode != 0) return Errno(EINVAL);
  if ((how.flags & O_PATH) != 0 && (how.flags & ~kWithPath) != 0) return Errno(EINVAL);
  // What is in memory and what is not is not known here: its caller asks again without this.
  if ((how.resolve & kResolveCached) != 0) return Errno(EAGAIN);
  return open_at(task, as_int(a[0]), a[1], static_cast<int>(how.flags), how.mode,
                 static_cast<uint32_t>(how.resolve));
}
ErrnoOr<uint64_t> sys_creat(Task& task, Arguments a) {
  return open_at(task, kAtCwd, a[0], O_CREAT | O_WRONLY | O_TRUNC, a[1]);
}

ErrnoOr<uint64_t> sys_stat(Task& task, Arguments a) {
  const Stat stat = GUEST_TRY(stat_at(task, kAtCwd, a[0], 0));
  GUEST_TRY(task.put(a[1], shown(task, stat)));
  return uint64_t{0};
}
ErrnoOr<uint64_t> sys_lstat(Task& task, Arguments a) {
  const Stat stat = GUEST_TRY(stat_at(task, kAtCwd, a[0], AT_SYMLINK_NOFOLLOW));
  GUEST_TRY(task.put(a[1], shown(task, stat)));
  return uint64_t{0};
}
ErrnoOr<uint64_t> sys_newfstatat(Task& task, Arguments a) {
  const Stat stat = GUEST_TRY(stat_at(task, as_int(a[0]), a[1], as_int(a[3])));
  GUEST_TRY(task.put(a[2], shown(task, stat)));
  return uint64_t{0};
}

ErrnoOr<uint64_t> sys_statx(Task& task, Arguments a) {
  struct StatxTime {
    int64_t seconds;
    uint32_t nanoseconds;
    int32_t reserved;
  };
  struct {
    uint32_t mask = 0x7ff;
    uint32_t block_size = 0;
    uint64_t attributes = 0;
    uint32_t nlink = 0;
    uint32_t uid = 0, gid = 0;
    uint16_t mode = 0, padding = 0;
    uint64_t ino = 0, size = 0, blocks = 0, attributes_mask = 0;
    StatxTime accessed{}, born{}, changed{}, modified{};
    uint32_t rdev_major = 0, rdev_minor = 0, dev_major = 0, dev_minor = 0;
    uint64_t mount = 0, spare[13] = {};
  } out;
  static_assert(sizeof out == 256);
  if ((a[3] & 0x80000000U) != 0 || (as_int(a[2]) & 0x6000) == 0x6000) return Errno(EINVAL);
  const Stat stat = shown(task, GUEST_TRY(stat_at(task, as_int(a[0]), a[1], as_int(a[2]))));
  const auto time = [](const Timestamp& from) {
    return StatxTime{from.seconds, static_cast<uint32_t>(from.nanoseconds), 0};
  };
  const auto major = [](uint64_t device) {
    return static_cast<uint32_t>((device >> 8 & 0xfff) | (device >> 32 & 0xfffff000));
  };
  const auto minor = [](uint64_t device) {
    return static_cast<uint32_t>((device & 0xff) | (device >> 12 & 0xffffff00));
  };
  out.block_size = static_cast<uint32_t>(stat.block_size);
  out.nlink = static_cast<uint32_t>(stat.nlink);
  out.uid = stat.uid;
  out.gid = stat.gid;
  out.mode = static_cast<uint16_t>(stat.mode);
  out.ino = stat.ino;
  out.size = static_cast<uint64_t>(stat.size);
  out.blocks = static_cast<uint64_t>(stat.blocks);
  out.accessed = time(stat.accessed);
  out.changed = time(stat.changed);
  out.modified = time(stat.modified);
  out.rdev_major = major(stat.rdev);
  out.rdev_minor = minor(stat.rdev);
  out.dev_major = major(stat.dev);
  out.dev_minor = minor(stat.dev);
  GUEST_TRY(task.put(a[4], out));
  return uint64_t{0};
}

ErrnoOr<uint64_t> sys_access(Task& task, Arguments a) {
  return access_at(task, kAtCwd, a[0], as_int(a[1]), 0);
}
ErrnoOr<uint64_t> sys_faccessat(Task& task, Arguments a) {
  return access_at(task, as_int(a[0]), a[1], as_int(a[2]), 0);
}
ErrnoOr<uint64_t> sys_faccessat2(Task& task, Arguments a) {
  return access_at(task, as_int(a[0]), a[1], as_int(a[2]), as_int(a[3]));
}

ErrnoOr<uint64_t> sys_readlink(Task& task, Arguments a) {
  return readlink_at(task, kAtCwd, a[0], a[1], a[2]);
}
ErrnoOr<uint64_t> sys_readlinkat(Task& task, Arguments a) {
  return readlink_at(task, as_int(a[0]), a[1], a[2], a[3]);
}

ErrnoOr<uint64_t> sys_mkdir(Task& task, Arguments a) {
  return make_at(task, kAtCwd, a[0], S_IFDIR, a[1], 0);
}
ErrnoOr<uint64_t> sys_mkdirat(Task& task, Arguments a) {
  return make_at(task, as_int(a[0]), a[1], S_IFDIR, a[2], 0);
}

namespace {
ErrnoOr<uint64_t> make_node(Task& task, int dirfd, uint64_t path, uint64_t mode, uint64_t device) {
  uint32_t type = static_cast<uint32_t>(mode) & S_IFMT;
  if (type == 0) type = S_IFREG;
  if (type == S_IFDIR) return Errno(EPERM);
  if (type == S_IFCHR || type == S_IFBLK) return Errno(EPERM);
  if (type != S_IFREG && type != S_IFIFO && type != S_IFSOCK) return Errno(EINVAL);
  return make_at(task, dirfd, path, type, mode, device);
}
}  // namespace
ErrnoOr<uint64_t> sys_mknod(Task& task, Arguments a) {
  return make_node(task, kAtCwd, a[0], a[1], a[2]);
}
ErrnoOr<uint64_t> sys_mknodat(Task& task, Arguments a) {
  return make_node(task, as_int(a[0]), a[1], a[2], a[3]);
}

ErrnoOr<uint64_t> sys_rmdir(Task& task, Arguments a) { return remove_at(task, kAtCwd, a[0], true); }
ErrnoOr<uint64_t> sys_unlink(Task& task, Arguments a) {
  return remove_at(task, kAtCwd, a[0], false);
}
ErrnoOr<uint64_t> sys_unlinkat(Task& task, Arguments a) {
  const int flags = as_int(a[2]);
  if ((flags & ~AT_REMOVEDIR) != 0) return Errno(EINVAL);
  return remove_at(task, as_int(a[0]), a[1], flags != 0);
}

ErrnoOr<uint64_t> sys_rename(Task& task, Arguments a) {
  return rename_at(task, kAtCwd, a[0], kAtCwd, a[1], 0);
}
ErrnoOr<uint64_t> sys_renameat(Task& task, Arguments a) {
  return rename_at(task, as_int(a[0]), a[1], as_int(a[2]), a[3], 0);
}
ErrnoOr<uint64_t> sys_renameat2(Task& task, Arguments a) {
  return rename_at(task, as_int(a[0]), a[1], as_int(a[2]), a[3], as_int(a[4]));
}
ErrnoOr<uint64_t> sys_link(Task& task, Arguments a) {
  return link_at(task, kAtCwd, a[0], kAtCwd, a[1], 0);
}
ErrnoOr<uint64_t> sys_linkat(Task& task, Arguments a) {
  return link_at(task, as_int(a[0]), a[1], as_int(a[2]), a[3], as_int(a[4]));
}
ErrnoOr<uint64_t> sys_symlink(Task& task, Arguments a) {
  return symlink_at(task, a[0], kAtCwd, a[1]);
}
ErrnoOr<uint64_t> sys_symlinkat(Task& task, Arguments a) {
  return symlink_at(task, a[0], as_int(a[1]), a[2]);
}

ErrnoOr<uint64_t> sys_chmod(Task& task, Arguments a) {
  const NamedFile file = GUEST_TRY(named_file(task, kAtCwd, a[0], 0));
  GUEST_TRY(change_mode(task, file, static_cast<uint32_t>(a[1])));
  return uint64_t{0};
}
ErrnoOr<uint64_t> sys_fchmodat(Task& task, Arguments a) {
  const NamedFile file = GUEST_TRY(named_file(task, as_int(a[0]), a[1], 0));
  GUEST_TRY(change_mode(task, file, static_cast<uint32_t>(a[2])));
  return uint64_t{0};
}
ErrnoOr<uint64_t> sys_fchmodat2(Task& task, Arguments a) {
  const int flags = as_int(a[3]);
  if ((flags & ~(AT_SYMLINK_NOFOLLOW | kEmptyPath)) != 0) return Errno(EINVAL);
  const NamedFile file = GUEST_TRY(named_file(task, as_int(a[0]), a[1], flags));
  if (file.inode->is_link()) return Errno(EOPNOTSUPP);
  GUEST_TRY(change_mode(task, file, static_cast<uint32_t>(a[2])));
  return uint64_t{0};
}
ErrnoOr<uint64_t> sys_fchmod(Task& task, Arguments a) {
  const FilePtr file = GUEST_TRY(task.files->get(as_int(a[0])));
  if ((file->flags() & O_PATH) != 0) return Errno(EBADF);
  GUEST_TRY(change_mode(task, {file->path(), file->inode()}, static_cast<uint32_t>(a[1])));
  return uint64_t{0};
}
ErrnoOr<uint64_t> sys_chown(Task& task, Arguments a) {
  const NamedFile file = GUEST_TRY(named_file(task, kAtCwd, a[0], 0));
  GUEST_TRY(change_owner(task, file, static_cast<uint32_t>(a[1]), static_cast<uint32_t>(a[2])));
  return uint64_t{0};
}
ErrnoOr<uint64_t> sys_lchown(Task& task, Arguments a) {
  const NamedFile file = GUEST_TRY(named_file(task, kAtCwd, a[0], AT_SYMLINK_NOFOLLOW));
  GUEST_TRY(change_owner(task, file, static_cast<uint32_t>(a[1]), static_cast<uint32_t>(a[2])));
  return uint64_t{0};
}
ErrnoOr<uint64_t> sys_fchown(Task& task, Arguments a) {
  const FilePtr file = GUEST_TRY(task.files->get(as_int(a[0])));
  if ((file->flags() & O_PATH) != 0) return Errno(EBADF);
  GUEST_TRY(change_owner(task, {file->path(), file->inode()}, static_cast<uint32_t>(a[1]),
                         static_cast<uint32_t>(a[2])));
  return uint64_t{0};
}
ErrnoOr<uint64_t> sys_fchownat(Task& task, Arguments a) {
  if ((as_int(a[4]) & ~(AT_SYMLINK_NOFOLLOW | kEmptyPath)) != 0) return Errno(EINVAL);
  const NamedFile file = GUEST_TRY(named_file(task, as_int(a[0]), a[1], as_int(a[4])));
  GUEST_TRY(change_owner(task, file, static_cast<uint32_t>(a[2]), static_cast<uint32_t>(a[3])));
  return uint64_t{0};
}

namespace {

constexpr int64_t kNow = 0x3fffffff;   // UTIME_NOW
constexpr int64_t kOmit = 0x3ffffffe;  // UTIME_OMIT
struct Times {
  Timestamp of[2] = {{0, kNow}, {0, kNow}};
  bool given = false;
  /// utimensat(2): both as they are now is for whoever may write to it.
  bool are_now() const {
    return !given || (of[0].nanoseconds == kNow && of[1].nanoseconds == kNow);
  }
};

Errno set_times(Task& task, const NamedFile& file, Times times) {
  const bool now_both = times.are_now();
  const int64_t ns = host::clock_ns(0);
  const Timestamp now{ns / 1'000'000'000, ns % 1'000'000'000};
  SetAttributes change;
  for (int i = 0; i < 2; ++i) {
    Timestamp& time = times.of[i];
    if (time.nanoseconds == kOmit) continue;
    if (time.nanoseconds == kNow) time = now;
    (i == 0 ? change.accessed : change.modified) = time;
  }
  const InodePtr& inode = file.inode;
  if (!change.accessed && !change.modified) return kOk;
  GUEST_TRY(may_be_changed(task, file));
  const Stat stat = GUEST_TRY(inode->stat());
  if (!may_own(task.credentials, stat).ok()) {
    if (!now_both) return Errno(EPERM);
    GUEST_TRY(may_access(task.credentials, stat, 2));
  }
  GUEST_TRY(inode->set_attributes(change));
  // One time alone looks like what moves it.
  const uint32_t event = !change.modified ? IN_ACCESS : !change.accessed ? IN_MODIFY : IN_ATTRIB;
  tell_changed(task, file, event);
  return kOk;
}

/// struct timeval[2] at the address; 0 is now.
ErrnoOr<Times> get_microseconds(Task& task, uint64_t address) {
  Times times;
  if (address == 0) return times;
  times.given = true;
  GUEST_TRY(task.copy_in(address, std::as_writable_bytes(std::span(times.of))));
  for (Timestamp& time : times.of) {
    if (time.nanoseconds < 0 || time.nanoseconds >= 1'000'000) return Errno(EINVAL);
    time.nanoseconds *= 1000;
  }
  return times;
}

ErrnoOr<uint64_t> set_times_at(Task& task, int dirfd, uint64_t path, const Times& times) {
  NamedFile file;
  if (path == 0 && dirfd != kAtCwd) {
    const FilePtr opened = GUEST_TRY(task.files->get(dirfd));
    file = {opened->path(), opened->inode()};
  } else {
    file = GUEST_TRY(named_file(task, dirfd, path, 0));
  }
  GUEST_TRY(set_times(task, file, times));
  return uint64_t{0};
}

}  // namespace

ErrnoOr<uint64_t> sys_utimensat(Task& task, Arguments a) {
  const int flags = as_int(a[3]);
  if ((flags & ~(AT_SYMLINK_NOFOLLOW | kEmptyPath)) != 0) return Errno(EINVAL);
  Times times;
  times.given = a[2] != 0;
  if (times.given) GUEST_TRY(task.copy_in(a[2], std::as_writable_bytes(std::span(times.of))));
  for (const Timestamp& time : times.of)
    if (time.nanoseconds != kNow && time.nanoseconds != kOmit &&
        (time.nanoseconds < 0 || time.nanoseconds >= 1'000'000'000))
      return Errno(EINVAL);
  NamedFile file;
  if (a[1] == 0) {
    const FilePtr opened = GUEST_TRY(task.files->get(as_int(a[0])));
    file = {opened->path(), opened->inode()};
  } else {
    file = GUEST_TRY(named_file(task, as_int(a[0]), a[1], flags));
  }
  GUEST_TRY(set_times(task, file, times));
  return uint64_t{0};
}

ErrnoOr<uint64_t> sys_utime(Task& task, Arguments a) {
  Times times;
  if (a[1] != 0) {
    int64_t seconds[2];
    GUEST_TRY(task.copy_in(a[1], std::as_writable_bytes(std::span(seconds))));
    times.given = true;
    for (int i = 0; i < 2; ++i) times.of[i] = {seconds[i], 0};
  }
  return set_times_at(task, kAtCwd, a[0], times);
}
ErrnoOr<uint64_t> sys_utimes(Task& task, Arguments a) {
  const Times times = GUEST_TRY(get_microseconds(task, a[1]));
  return set_times_at(task, kAtCwd, a[0], times);
}
ErrnoOr<uint64_t> sys_futimesat(Task& task, Arguments a) {
  const Times times = GUEST_TRY(get_microseconds(task, a[2]));
  return set_times_at(task, as_int(a[0]), a[1], times);
}

ErrnoOr<uint64_t> sys_truncate(Task& task, Arguments a) {
  const auto size = static_cast<int64_t>(a[1]);
  if (size < 0) return Errno(EINVAL);
  const NamedFile file = GUEST_TRY(named_file(task, kAtCwd, a[0], 0));
  const Stat stat = GUEST_TRY(file.inode->stat());
  if (S_ISDIR(stat.mode)) return Errno(EISDIR);
  if (!S_ISREG(stat.mode)) return Errno(EINVAL);
  GUEST_TRY(may_be_changed(task, file));
  GUEST_TRY(may_access(task.credentials, stat, 2));
  const std::shared_ptr<void> writing = GUEST_TRY(hold_for_writing(file.inode));
  GUEST_TRY(may_become(task, *file.inode, a[1]));
  GUEST_TRY(file.inode->truncate(size));
  file.inode->written_by(task.credentials);
  tell_changed(task, file, IN_MODIFY);
  return uint64_t{0};
}

ErrnoOr<uint64_t> sys_chdir(Task& task, Arguments a) {
  const std::string path = GUEST_TRY(task.get_path(a[0]));
  const DentryPtr to = GUEST_TRY(task.kernel.tree->find(task.walk_from(), path, LastLink::kFollow));
  GUEST_TRY(change_dir(task, to));
  return uint64_t{0};
}
ErrnoOr<uint64_t> sys_fchdir(Task& task, Arguments a) {
  const FilePtr file = GUEST_TRY(task.files->get(as_int(a[0])));
  if (!file->path()) return Errno(ENOTDIR);
  GUEST_TRY(change_dir(task, file->path()));
  return uint64_t{0};
}
ErrnoOr<uint64_t> sys_chroot(Task& task, Arguments a) {
  const std::string path = GUEST_TRY(task.get_path(a[0]));
  const DentryPtr to = GUEST_TRY(task.kernel.tree->find(task.walk_from(), path, LastLink::kFollow));
  if (!to->inode->is_dir()) return Errno(ENOTDIR);
  if (!task.credentials.has(kCapSysChroot)) return Errno(EPERM);
  std::lock_guard lock(task.fs->lock);
  task.fs->root = to;
  return uint64_t{0};
}

ErrnoOr<uint64_t> sys_getcwd(Task& task, Arguments a) {
  DentryPtr root;
  DentryPtr cwd;
  {
    std::lock_guard lock(task.fs->lock);
    root = task.fs->root;
    cwd = task.fs->cwd;
  }
  if (cwd->removed) return Errno(ENOENT);
  const std::string path = task.kernel.tree->path_of(cwd, root);
  if (path.size() + 1 > a[1]) return Errno(ERANGE);
  GUEST_TRY(task.copy_out(a[0], std::as_bytes(std::span(path.c_str(), path.size() + 1))));
  return uint64_t{path.size() + 1};
}

ErrnoOr<uint64_t> sys_umask(Task& task, Arguments a) {
  std::lock_guard lock(task.fs->lock);
  const uint32_t before = task.fs->umask;
  task.fs->umask = static_cast<uint32_t>(a[0]) & 0777;
  return uint64_t{before};
}

ErrnoOr<uint64_t> sys_statfs(Task& task, Arguments a) {
  const InodePtr inode = GUEST_TRY(named_inode(task, kAtCwd, a[0], 0));
  const StatfsBuffer out = GUEST_TRY(inode->statfs());
  GUEST_TRY(task.put(a[1], out));
  return uint64_t{0};
}
ErrnoOr<uint64_t> sys_fstatfs(Task& task, Arguments a) {
  const FilePtr file = GUEST_TRY(task.files->get(as_int(a[0])));
  const StatfsBuffer out = GUEST_TRY(file->inode()->statfs());
  GUEST_TRY(task.put(a[1], out));
  return uint64_t{0};
}

}  // namespace fluyt::guest
