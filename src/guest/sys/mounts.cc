#include <fcntl.h>
#include <sys/mount.h>
#include <sys/stat.h>

#include <array>

#include "guest/fs/memfs.h"
#include "guest/sys/handlers.h"
#include "guest/task/namespaces.h"

// mount(2) and umount2(2), each in its caller's own mount namespace. What the sandbox began with
// stays as it is.

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
  if (!task.kernel.tree->is_within(found, task.mounts->root)) return Errno(EINVAL);
  return found;
}

/// Half of what there is: what "size=50%" is.
uint64_t half_of(const Task& task) { return task.container->memory.read().total / 2; }

}  // namespace

ErrnoOr<uint64_t> sys_mount(Task& task, Arguments a) {
  if (!task.credentials.can(kCapSysAdmin)) return Errno(EPERM);
  const uint64_t flags = a[3];
  Tree& tree = *task.kernel.tree;
  const DentryPtr at = GUEST_TRY(target_of(task, a[1], LastLink::kFollow));
  if ((flags & MS_REMOUNT) != 0) {
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
    GUEST_TRY(tree.bind(from, at));
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
  InodePtr root;
  if (type == "tmpfs") {
    MemfsRequest request;
    request.within = task.kernel.shared_memory;
    task.kernel.limit_shared_memory();
    const uint64_t half = half_of(task);
    request.limit_to(half);
    GUEST_TRY(read_memfs_options(data, half, request));
    root = make_memfs(request);
  } else {
    root = maker->second(task);
  }
  GUEST_TRY(tree.mount(at, std::move(root), type, options_of(flags)));
  return uint64_t{0};
}

ErrnoOr<uint64_t> sys_umount2(Task& task, Arguments a) {
  constexpr int kFlags = MNT_FORCE | MNT_DETACH | MNT_EXPIRE | UMOUNT_NOFOLLOW;
  const int flags = as_int(a[1]);
  if ((flags & ~kFlags) != 0) return Errno(EINVAL);
  if (!task.credentials.can(kCapSysAdmin)) return Errno(EPERM);
  if ((flags & MNT_EXPIRE) != 0)
    return Errno((flags & (MNT_FORCE | MNT_DETACH)) != 0 ? EINVAL : EAGAIN);
  const DentryPtr at = GUEST_TRY(
      target_of(task, a[0], (flags & UMOUNT_NOFOLLOW) != 0 ? LastLink::kKeep : LastLink::kFollow));
  GUEST_TRY(task.kernel.tree->unmount(at, (flags & MNT_DETACH) != 0));
  return uint64_t{0};
}

}  // namespace fluyt::guest
