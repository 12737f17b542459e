#include <fcntl.h>
#include <sys/mount.h>
#include <sys/stat.h>

#include <array>

#include "guest/sys/handlers.h"

// mount(2) and umount2(2) in the one mount namespace of a sandbox. What the sandbox began with
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
  return task.kernel.tree->find(task.walk_from(), path, last);
}

/// "mode=" of a tmpfs, the one option that changes what is made here.
Errno apply_data(InodePtr& root, const std::string& data) {
  for (size_t begin = 0; begin < data.size();) {
    size_t end = data.find(',', begin);
    if (end == std::string::npos) end = data.size();
    const std::string option = data.substr(begin, end - begin);
    begin = end + 1;
    if (!option.starts_with("mode=")) continue;
    uint32_t mode = 0;
    for (const char digit : option.substr(5)) {
      if (digit < '0' || digit > '7' || mode > 07777) return Errno(EINVAL);
      mode = mode * 8 + static_cast<uint32_t>(digit - '0');
    }
    SetAttributes change;
    change.mode = mode & 07777;
    GUEST_TRY(root->set_attributes(change));
  }
  return kOk;
}

}  // namespace

ErrnoOr<uint64_t> sys_mount(Task& task, Arguments a) {
  if (!task.credentials.can(kCapSysAdmin)) return Errno(EPERM);
  const uint64_t flags = a[3];
  Tree& tree = *task.kernel.tree;
  const DentryPtr at = GUEST_TRY(target_of(task, a[1], LastLink::kFollow));
  if ((flags & MS_REMOUNT) != 0) {
    GUEST_TRY(tree.remount(at, options_of(flags)));
    return uint64_t{0};
  }
  if ((flags & MS_BIND) != 0) {
    const std::string source = GUEST_TRY(task.get_path(a[0]));
    const DentryPtr from = GUEST_TRY(tree.find(task.walk_from(), source, LastLink::kFollow));
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
  InodePtr root = maker->second();
  if (type == "tmpfs") GUEST_TRY(apply_data(root, data));
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
