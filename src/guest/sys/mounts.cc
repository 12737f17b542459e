#include <fcntl.h>
#include <sys/mount.h>
#include <sys/stat.h>

#include <array>

#include "guest/fs/memfs.h"
#include "guest/sys/handlers.h"
#include "guest/task/namespaces.h"

// mount(2), umount2(2) and pivot_root(2), each in its caller's own mount namespace. What the
// sandbox began with stays as it is.

namespace fluyt::guest {
namespace {

constexpr size_t kMaxData = 4096;
constexpr uint64_t kPropagation = MS_SHARED | MS_PRIVATE | MS_SLAVE | MS_UNBINDABLE;

std::string options_of(uint64_t flags) {
  constexpr std::array<std::pair<uint64_t, const char*>, 4> kNames = {{{MS_NOSUID, ",nosuid"},
                                                                       {MS_NODEV, ",nodev"},
                                                                       {MS_NOEXEC, ",noexec"},
                                                                       {MS_NOATIME, ",noatime"}}};
  std::string out = (flags & MS_RDONLY) != 0 ? "ro" : "rw";
  for (const auto& [flag, name] : kNames)
    if ((flags & flag) != 0) out += name;
  return (flags & MS_NOATIME) != 0 ? out : out + ",relatime";
}

ErrnoOr<DentryPtr> target_of(Task& task, uint64_t address, LastLink last) {
  const std::string path = GUEST_TRY(task.get_path(address));
  DentryPtr found = GUEST_TRY(task.kernel.tree->find(task.walk_from(), path, last));
  // Descriptors and /proc/[pid]/root lead to other namespaces too.
  if (!task.kernel.tree->is_within(found, task.mounts->root())) return Errno(EINVAL);
  return found;
}

/// In the mount namespace that the caller is in.
bool may_mount(const Task& task) {
  return task.credentials.can_in(kCapSysAdmin, task.mounts->user.get());
}

/// The user namespace that a new file system of a type is to belong to (mount_namespaces(7),
/// user_namespaces(7)). EPERM: it is not the caller's to mount.
ErrnoOr<UserSpacePtr> owner_of_new(Task& task, std::string_view type, const std::string& options) {
  UserSpacePtr owner = task.credentials.user;
  if (type == "proc") owner = task.process->pids->user;
  if (type == "sysfs") owner.reset();  // the network namespace's, of which there is one
  if (type == "mqueue") owner = task.sysv().user;
  if (!task.credentials.can_in(kCapSysAdmin, owner.get())) return Errno(EPERM);
  // Nobody is to see of them what is hidden where the caller comes from.
  if (task.mounts->user && (type == "proc" || type == "sysfs") &&
      !task.kernel.tree->is_fully_visible(task.mounts->root(), type, options))
    return Errno(EPERM);
  return owner;
}

/// A tmpfs for the caller, whose root it is unless the options say otherwise.
ErrnoOr<InodePtr> make_tmpfs(Task& task, std::string_view options, uint64_t half) {
  MemfsRequest request;
  request.within = task.kernel.shared_memory;
  request.descriptors = task.container->descriptors;
  request.uid = request.gid = kNoId;
  task.kernel.limit_shared_memory();
  request.limit_to(half);
  GUEST_TRY(read_memfs_options(options, half, request));
  const Credentials& who = task.credentials;
  request.uid = request.uid == kNoId ? who.fsuid : task.kernel_uid(request.uid);
  request.gid = request.gid == kNoId ? who.fsgid : task.kernel_gid(request.gid);
  if (request.uid == kNoId || request.gid == kNoId) return Errno(EINVAL);
  return make_memfs(request);
}

/// Half of what there is: what "size=50%" is.
uint64_t half_of(const Task& task) { return task.container->memory.read().total / 2; }

}  // namespace

ErrnoOr<uint64_t> sys_mount(Task& task, Arguments a) {
  if (!may_mount(task)) return Errno(EPERM);
  const uint64_t flags = a[3];
  Tree& tree = *task.kernel.tree;
  const DentryPtr at = GUEST_TRY(target_of(task, a[1], LastLink::kFollow));
  if ((flags & MS_REMOUNT) != 0) {
    if ((flags & MS_BIND) == 0 && !task.credentials.can_in(kCapSysAdmin, tree.owner_of(at).get()))
      return Errno(EPERM);
    if (a[4] != 0 && (flags & MS_BIND) == 0 && Tree::is_mount_root(*at)) {
      const std::string data = GUEST_TRY(task.get_string(a[4], kMaxData));
      if (!data.empty() && at->file_system == "tmpfs")
        GUEST_TRY(limit_memfs(*at->inode, data, half_of(task)));
    }
    GUEST_TRY(tree.remount(at, options_of(flags)));
    return uint64_t{0};
  }
  if ((flags & MS_BIND) != 0) {
    const std::string source = GUEST_TRY(task.get_path(a[0]));
    const DentryPtr from = GUEST_TRY(tree.find(task.walk_from(), source, LastLink::kFollow));
    // It would hold itself.
    const auto* space = dynamic_cast<const NamespaceInode*>(from->inode.get());
    if (space != nullptr && space->name.kind == NamespaceKind::kMount) return Errno(EINVAL);
    if (space == nullptr && !tree.is_within(from, task.mounts->root())) return Errno(EINVAL);
    GUEST_TRY(tree.bind(from, at,
                        (flags & MS_REC) != 0 ? Tree::Depth::kWithAllBelow : Tree::Depth::kAlone));
    return uint64_t{0};
  }
  // Nothing of ours is seen anywhere else, and nothing from elsewhere here.
  if ((flags & kPropagation) != 0) {
    if (!Tree::is_mount_root(*at)) return Errno(EINVAL);
    return uint64_t{0};
  }
  if ((flags & MS_MOVE) != 0) return Errno(EINVAL);
  const std::string type = GUEST_TRY(task.get_string(a[2], 256));
  const auto maker = task.kernel.file_systems.find(type);
  if (maker == task.kernel.file_systems.end()) return Errno(ENODEV);
  std::string data;
  if (a[4] != 0) data = GUEST_TRY(task.get_string(a[4], kMaxData));
  UserSpacePtr owner = GUEST_TRY(owner_of_new(task, type, options_of(flags)));
  InodePtr root;
  if (type == "tmpfs") {
    root = GUEST_TRY(make_tmpfs(task, data, half_of(task)));
  } else {
    root = maker->second(task);
    if (type == "ramfs") {
      SetAttributes own;
      own.uid = task.credentials.fsuid;
      own.gid = task.credentials.fsgid;
      GUEST_TRY(root->set_attributes(own));
    }
  }
  GUEST_TRY(tree.mount(at, std::move(root), type, options_of(flags), std::move(owner)));
  return uint64_t{0};
}

ErrnoOr<uint64_t> sys_umount2(Task& task, Arguments a) {
  constexpr int kFlags = MNT_FORCE | MNT_DETACH | MNT_EXPIRE | UMOUNT_NOFOLLOW;
  const int flags = as_int(a[1]);
  if ((flags & ~kFlags) != 0) return Errno(EINVAL);
  if (!may_mount(task)) return Errno(EPERM);
  if ((flags & MNT_EXPIRE) != 0)
    return Errno((flags & (MNT_FORCE | MNT_DETACH)) != 0 ? EINVAL : EAGAIN);
  const DentryPtr at = GUEST_TRY(
      target_of(task, a[0], (flags & UMOUNT_NOFOLLOW) != 0 ? LastLink::kKeep : LastLink::kFollow));
  GUEST_TRY(task.kernel.tree->unmount(at, (flags & MNT_DETACH) != 0));
  return uint64_t{0};
}

ErrnoOr<uint64_t> sys_pivot_root(Task& task, Arguments a) {
  if (!may_mount(task)) return Errno(EPERM);
  const DentryPtr new_root = GUEST_TRY(target_of(task, a[0], LastLink::kFollow));
  const DentryPtr put_old = GUEST_TRY(target_of(task, a[1], LastLink::kFollow));
  Kernel& kernel = task.kernel;
  const DentryPtr root = task.mounts->root();
  DentryPtr own_root;
  {
    std::lock_guard lock(task.fs->lock);
    own_root = task.fs->root;
  }
  const bool is_first = task.mounts == kernel.mounts || task.mounts == task.container->mounts;
  if (is_first || !kernel.tree->is_root_of(own_root, root)) return Errno(EINVAL);
  const DentryPtr over_root = kernel.tree->topmost(root);
  GUEST_TRY(kernel.tree->pivot(root, new_root, put_old));
  task.mounts->set_root(new_root);
  // Who stands at the old root stands at the new one.
  std::lock_guard lock(kernel.lock);
  for (const auto& [id, each] : kernel.tasks) {
    if (each->mounts != task.mounts || !each->fs) continue;
    std::lock_guard guard(each->fs->lock);
    for (DentryPtr* place : {&each->fs->root, &each->fs->cwd})
      if (*place == root || *place == over_root) *place = new_root;
  }
  return uint64_t{0};
}

}  // namespace fluyt::guest
