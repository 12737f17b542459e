#pragma once

#include <sys/mount.h>

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "sys/fd.h"
#include "sys/overlay.h"

/// The mount API of Linux 5.2 to 5.15: file systems and mount trees as descriptors, attached to
/// descriptors. Nothing here takes a path inside a container. MOUNT_ATTR_* and MS_* are the
/// system's.
namespace fluyt::sys {

/// A file system being configured: fsopen(2), fsconfig(2), fsmount(2).
class FsContext {
 public:
  /// kUnimplemented when the kernel has no such file system.
  static Result<FsContext> open(const std::string& type);
  /// Of one that another process opened, in namespaces of its own.
  static FsContext adopt(Fd fd, std::string type) { return {std::move(fd), std::move(type)}; }
  /// Of the file system of which `mount` is a mount's root (fspick(2)), to be reconfigured.
  static Result<FsContext> pick(FdRef mount);
  FdRef fd() const { return fd_; }
  Result<> set_flag(const std::string& key);
  Result<> set_string(const std::string& key, const std::string& value);
  Result<> set_fd(const std::string& key, FdRef fd);
  /// Makes the superblock and a detached mount of it with MOUNT_ATTR_* `attributes`. Errors carry
  /// what the kernel wrote to the context's log.
  Result<Fd> mount(uint64_t attributes);
  /// Gives the options that were set to the file system that was picked; its others stay. It is the
  /// same for all who have it mounted.
  Result<> reconfigure();

 private:
  FsContext(Fd fd, std::string type) : fd_(std::move(fd)), type_(std::move(type)) {}
  Error explain(int errno_value, const std::string& call) const;
  Fd fd_;
  std::string type_;
};

enum class Depth { kOne, kTree };

/// A detached copy of the mount at `path` (open_tree(2) with OPEN_TREE_CLONE). For paths of the
/// host.
Result<Fd> clone_mount(const std::string& path, Depth depth);
/// The same of what the descriptor shows. `at` must lie in a mount of our own namespace.
Result<Fd> clone_mount(FdRef at, Depth depth);

struct MountAttributes {
  uint64_t set = 0;  // MOUNT_ATTR_*
  uint64_t clear = 0;
  uint64_t propagation = 0;  // MS_PRIVATE, MS_SLAVE, MS_SHARED, MS_UNBINDABLE
  FdRef user_namespace;      // with MOUNT_ATTR_IDMAP in `set`
};
/// mount_setattr(2) on the mount that `mount` is the root of.
Result<> set_mount_attributes(FdRef mount, const MountAttributes& attributes, Depth depth);

/// Makes the detached mount `mount` show its files under the ids of `user_namespace`. A file system
/// that cannot do that is kFailedPrecondition, by its name.
Result<> map_mount(FdRef mount, FdRef user_namespace, Depth depth = Depth::kOne);
/// A detached copy of the mount at `path` whose files show under `ids`.
Result<Fd> clone_mapped(const std::string& path, const IdMaps& ids);
/// The name of the file system that `fd` lies in, such as "ext4"; its number where mountinfo has
/// none.
std::string fs_name(FdRef fd);

/// The flags that the mount has, of MOUNT_ATTR_RDONLY, NOSUID, NODEV, NOEXEC, NODIRATIME and the
/// access-time field.
Result<uint64_t> mount_flags(FdRef mount);

/// move_mount(2) of a detached mount onto what `target` (O_PATH) shows: no path on either side.
Result<> attach_mount(FdRef mount, FdRef target);
/// Over the root directory of our own namespace: the new root, before pivot_to_working_directory().
Result<> attach_over_root(FdRef mount);

/// Our root and working directory become what lies on top at the root of our mount namespace, where
/// a chroot(2) had left them elsewhere: setns(2) into the namespace that we are in, which takes
/// CAP_SYS_CHROOT. For processes whose root and working directory are their own.
Result<> enter_root_of_mounts();
/// pivot_root(".", ".") and the old root detached: the working directory must be the new root.
Result<> pivot_to_working_directory();
/// Where the root is the initial ramfs, which cannot be pivoted: MS_MOVE onto / and chroot(2).
Result<> move_to_working_directory();
/// chroot(2) alone, for a new root that lies over / already (attach_over_root()): every way up ends
/// on what is on top there.
Result<> enter_attached_root();
Result<> change_directory(FdRef dir);

/// A number that names the mount `at` is in until the next boot; before Linux 6.8 it may be used
/// again once the mount is gone.
Result<uint64_t> mount_id(FdRef at);
/// umount2(2) with MNT_DETACH of the very mount that `root` is the root of, with all below it. For
/// mounts in our own namespace.
Result<> detach_mount(FdRef root);
/// The same of the topmost mount at a path of our own mount namespace; a last link is not followed.
Result<> detach_mount_at(const std::string& path);
/// The SELinux context of a mounted directory.
Result<> set_selinux_label(FdRef dir, const std::string& label);

/// Propagation of the whole tree at / of our own mount namespace.
Result<> set_root_propagation(uint64_t propagation, Depth depth);

/// The id of the mount that `fd` lies in, as mountinfo has it (statx(2), STATX_MNT_ID).
Result<uint64_t> mountinfo_id(FdRef fd);
/// f_type of fstatfs(2): PROC_SUPER_MAGIC and so on.
Result<uint64_t> fs_magic(FdRef fd);
inline constexpr uint64_t kProcMagic = 0x9fa0;
inline constexpr uint64_t kSysfsMagic = 0x62656572;
inline constexpr uint64_t kDevptsMagic = 0x1cd1;
inline constexpr uint64_t kTmpfsMagic = 0x01021994;
inline constexpr uint64_t kCgroup2Magic = 0x63677270;
inline constexpr uint64_t kNsfsMagic = 0x6e736673;

/// Of every overlay, whatever the host's module defaults to. What a container writes stays whole in
/// its upper directory, for whoever reads or copies that alone: no file without its data, no
/// directory that is somewhere else's (overlayfs.rst, "Metadata only copy up", "redirect_dir").
/// No index: a layer is under many uppers at once.
inline constexpr std::string_view kOverlayOptions = "index=off,metacopy=off,redirect_dir=nofollow";

/// An overlay as a detached mount. Layers by "lowerdir+" (6.5), so that their names need no
/// escapes; where the kernel does not know that, or a name is longer than fsconfig(2) takes (255
/// bytes), by make_overlay_by_path(), and so where ids are mapped or a sub path is asked for.
/// Without upper_dir it is read-only; without lower_dirs it is upper_dir itself, whose files keep
/// their labels. A sub path that is not there is kNotFound.
Result<Fd> make_overlay(const OverlayMount& overlay);

/// The same by mount(2), which takes all names in one page: descriptors, in a process and a mount
/// namespace of their own, are short ones. 500 directories fit.
Result<Fd> make_overlay_by_path(const OverlayMount& overlay);

}  // namespace fluyt::sys
