#include "sys/mount.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <sys/vfs.h>
#include <sys/xattr.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>

#include "base/strings.h"
#include "sys/clone.h"
#include "sys/file.h"

namespace fluyt::sys {

namespace {

Error failed(std::string_view call) { return Error::from_errno(errno, call); }

int recursive(Depth depth) { return depth == Depth::kTree ? AT_RECURSIVE : 0; }

constexpr size_t kMaxString = 255;  // that fsconfig(2) takes

bool has_long_name(const OverlayMount& overlay) {
  const auto is_long = [](const std::string& name) { return name.size() > kMaxString; };
  return is_long(overlay.upper_dir) || is_long(overlay.work_dir) ||
         std::any_of(overlay.lower_dirs.begin(), overlay.lower_dirs.end(), is_long);
}

// Before 6.5 overlayfs takes any key until the mount is made, and then tells the kernel's log which
// ones it does not know.
bool takes_any_key(FsContext& context) { return context.set_flag("no-such-key").ok(); }

Result<Fd> make_overlay_by_fsconfig(const OverlayMount& overlay) {
  FsContext context = FLUYT_TRY(FsContext::open("overlay"));
  if (takes_any_key(context)) return Error::from_errno(EINVAL, "overlay: keys are not looked at");
  FLUYT_TRY(context.set_string("source", "overlay"));
  for (const std::string& dir : overlay.lower_dirs) {
    FLUYT_TRY(context.set_string("lowerdir+", dir));
  }
  if (!overlay.upper_dir.empty()) {
    FLUYT_TRY(context.set_string("upperdir", overlay.upper_dir));
    FLUYT_TRY(context.set_string("workdir", overlay.work_dir));
  }
  for (const std::string_view option : split(kOverlayOptions, ',')) {
    const size_t equals = option.find('=');
    FLUYT_TRY(context.set_string(std::string(option.substr(0, equals)),
                                 std::string(option.substr(equals + 1))));
  }
  if (!overlay.label.empty()) FLUYT_TRY(context.set_string("context", overlay.label));
  return context.mount(overlay.upper_dir.empty() ? MOUNT_ATTR_RDONLY : 0);
}

}  // namespace

Error FsContext::explain(int errno_value, const std::string& call) const {
  // The context's descriptor is also its log: one line a read, "e overlay: ...", ENODATA at the
  // end.
  std::string said;
  char line[512];
  for (int i = 0; i < 4; ++i) {
    const ssize_t got = ::read(fd_.raw(), line, sizeof line);
    if (got <= 2) break;
    said += cat(said.empty() ? " (" : "; ",
                trim(std::string_view(line + 2, static_cast<size_t>(got) - 2)));
  }
  if (!said.empty()) said += ")";
  return Error::from_errno(errno_value, cat(call, said));
}

Result<FsContext> FsContext::open(const std::string& type) {
  Fd fd(fsopen(type.c_str(), FSOPEN_CLOEXEC));
  if (!fd.valid()) {
    const int error = errno;
    Error out = Error::from_errno(error, cat("fsopen(", quote(type), ")"));
    return error == ENODEV ? std::move(out).with_code(Code::kUnimplemented) : std::move(out);
  }
  return FsContext(std::move(fd), type);
}

Result<FsContext> FsContext::pick(FdRef mount) {
  Fd fd(fspick(mount.raw(), "", FSPICK_EMPTY_PATH | FSPICK_CLOEXEC));
  if (!fd.valid()) return failed(cat("fspick([", mount.raw(), "])"));
  return FsContext(std::move(fd), "remount");
}

Result<> FsContext::set_flag(const std::string& key) {
  if (fsconfig(fd_.raw(), FSCONFIG_SET_FLAG, key.c_str(), nullptr, 0) != 0) {
    return explain(errno, cat("fsconfig(", type_, ", ", quote(key), ")"));
  }
  return {};
}

Result<> FsContext::set_string(const std::string& key, const std::string& value) {
  if (fsconfig(fd_.raw(), FSCONFIG_SET_STRING, key.c_str(), value.c_str(), 0) != 0) {
    return explain(errno,
                   cat("fsconfig(", type_, ", ", quote(key), " = ", quote(value, 1024), ")"));
  }
  return {};
}

Result<> FsContext::set_fd(const std::string& key, FdRef fd) {
  if (fsconfig(fd_.raw(), FSCONFIG_SET_FD, key.c_str(), nullptr, fd.raw()) != 0) {
    return explain(errno, cat("fsconfig(", type_, ", ", quote(key), " = [", fd.raw(), "])"));
  }
  return {};
}

Result<Fd> FsContext::mount(uint64_t attributes) {
  if (fsconfig(fd_.raw(), FSCONFIG_CMD_CREATE, nullptr, nullptr, 0) != 0) {
    return explain(errno, cat("fsconfig(", type_, ", create)"));
  }
  Fd mount(fsmount(fd_.raw(), FSMOUNT_CLOEXEC, static_cast<unsigned>(attributes)));
  if (!mount.valid()) return explain(errno, cat("fsmount(", type_, ")"));
  return mount;
}

Result<> FsContext::reconfigure() {
  if (fsconfig(fd_.raw(), FSCONFIG_CMD_RECONFIGURE, nullptr, nullptr, 0) != 0)
    return explain(errno, cat("fsconfig(", type_, ", reconfigure)"));
  return {};
}

Result<Fd> clone_mount(const std::string& path, Depth depth) {
  Fd fd(open_tree(AT_FDCWD, path.c_str(),
                  OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC | static_cast<unsigned>(recursive(depth))));
  if (!fd.valid()) return failed(cat("open_tree(", quote(path, 1024), ", clone)"));
  return fd;
}

Result<Fd> clone_mount(FdRef at, Depth depth) {
  Fd fd(open_tree(at.raw(), "",
                  OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC | AT_EMPTY_PATH |
                      static_cast<unsigned>(recursive(depth))));
  if (!fd.valid()) return failed(cat("open_tree([", at.raw(), "], clone)"));
  return fd;
}

Result<> set_mount_attributes(FdRef mount, const MountAttributes& attributes, Depth depth) {
  mount_attr request{};
  request.attr_set = attributes.set;
  request.attr_clr = attributes.clear;
  request.propagation = attributes.propagation;
  if (attributes.user_namespace.valid()) {
    request.userns_fd = static_cast<uint64_t>(attributes.user_namespace.raw());
  }
  if (mount_setattr(mount.raw(), "", static_cast<unsigned>(AT_EMPTY_PATH | recursive(depth)),
                    &request, sizeof request) != 0) {
    return failed(cat("mount_setattr([", mount.raw(), "], set ", attributes.set, ", clear ",
                      attributes.clear, ", propagation ", attributes.propagation, ")"));
  }
  return {};
}

Result<> map_mount(FdRef mount, FdRef user_namespace, Depth depth) {
  auto mapped = set_mount_attributes(
      mount,
      {.set = MOUNT_ATTR_IDMAP, .clear = 0, .propagation = 0, .user_namespace = user_namespace},
      depth);
  if (mapped.ok() || mapped.error().errno_value() != EINVAL) return mapped;
  return std::move(mapped)
      .error()
      .with_code(Code::kFailedPrecondition)
      .add_context(cat("files of ", fs_name(mount), " cannot be shown under other ids here"));
}

Result<Fd> clone_mapped(const std::string& path, const IdMaps& ids) {
  const Fd space = FLUYT_TRY(make_user_namespace(ids.uids, ids.gids));
  Fd mount = FLUYT_TRY(clone_mount(path, Depth::kOne));
  FLUYT_TRY_CONTEXT(map_mount(mount, space), quote(path, 1024));
  return mount;
}

std::string fs_name(FdRef fd) {
  struct stat info{};
  const auto text = read_file("/proc/self/mountinfo", 16UL << 20U);
  if (text.ok() && fstat(fd.raw(), &info) == 0) {
    const std::string device = cat(major(info.st_dev), ":", minor(info.st_dev));
    for (const std::string_view line : split(*text, '\n')) {
      const size_t dash = line.find(" - ");
      const auto before = split_words(line.substr(0, dash));
      if (dash == std::string_view::npos || before.size() < 3 || before[2] != device) continue;
      const auto after = split_words(line.substr(dash + 3));
      if (!after.empty()) return std::string(after.front());
    }
  }
  const auto magic = fs_magic(fd);
  return magic.ok() ? cat("file system ", *magic) : "a file system";
}

Result<> detach_mount_at(const std::string& path) {
  if (umount2(path.c_str(), MNT_DETACH | UMOUNT_NOFOLLOW) != 0)
    return failed(cat("umount2(", quote(path, 1024), ")"));
  return {};
}

Result<uint64_t> mount_flags(FdRef mount) {
  struct statvfs info{};
  if (fstatvfs(mount.raw(), &info) != 0)
    return Error::from_errno(errno, cat("fstatvfs([", mount.raw(), "])"));
  uint64_t flags = 0;
  if ((info.f_flag & ST_RDONLY) != 0) flags |= MOUNT_ATTR_RDONLY;
  if ((info.f_flag & ST_NOSUID) != 0) flags |= MOUNT_ATTR_NOSUID;
  if ((info.f_flag & ST_NODEV) != 0) flags |= MOUNT_ATTR_NODEV;
  if ((info.f_flag & ST_NOEXEC) != 0) flags |= MOUNT_ATTR_NOEXEC;
  if ((info.f_flag & ST_NODIRATIME) != 0) flags |= MOUNT_ATTR_NODIRATIME;
  if ((info.f_flag & ST_NOATIME) != 0) return flags | MOUNT_ATTR_NOATIME;
  if ((info.f_flag & ST_RELATIME) == 0) flags |= MOUNT_ATTR_STRICTATIME;
  return flags;
}

Result<> attach_mount(FdRef mount, FdRef target) {
  if (move_mount(mount.raw(), "", target.raw(), "",
                 MOVE_MOUNT_F_EMPTY_PATH | MOVE_MOUNT_T_EMPTY_PATH) != 0) {
    return failed(cat("move_mount([", mount.raw(), "], [", target.raw(), "])"));
  }
  return {};
}

Result<> attach_over_root(FdRef mount) {
  if (move_mount(mount.raw(), "", AT_FDCWD, "/", MOVE_MOUNT_F_EMPTY_PATH) != 0) {
    return failed(cat("move_mount([", mount.raw(), "], \"/\")"));
  }
  return {};
}

Result<> enter_root_of_mounts() {
  const Fd mounts = FLUYT_TRY(open("/proc/self/ns/mnt", O_RDONLY));
  return join_namespaces(mounts, CLONE_NEWNS);
}

Result<> pivot_to_working_directory() {
  // The old root ends up stacked over the new one; "." still names what lies on top.
  if (syscall(SYS_pivot_root, ".", ".") != 0) return failed("pivot_root(\".\", \".\")");
  if (umount2(".", MNT_DETACH) != 0) return failed("umount2(old root, MNT_DETACH)");
  if (chdir("/") != 0) return failed("chdir(\"/\")");
  return {};
}

Result<> move_to_working_directory() {
  if (::mount(".", "/", nullptr, MS_MOVE, nullptr) != 0)
    return failed("mount(\".\", \"/\", MS_MOVE)");
  if (chroot(".") != 0) return failed("chroot(\".\")");
  if (chdir("/") != 0) return failed("chdir(\"/\")");
  return {};
}

Result<> enter_attached_root() {
  if (chroot(".") != 0) return failed("chroot(\".\")");
  if (chdir("/") != 0) return failed("chdir(\"/\")");
  return {};
}

Result<> change_directory(FdRef dir) {
  if (fchdir(dir.raw()) != 0) return failed(cat("fchdir([", dir.raw(), "])"));
  return {};
}

Result<uint64_t> mount_id(FdRef at) {
  constexpr unsigned kUnique = 0x4000;  // STATX_MNT_ID_UNIQUE
  struct statx info{};
  if (statx(at.raw(), "", AT_EMPTY_PATH, kUnique | STATX_MNT_ID, &info) != 0) {
    return failed(cat("statx([", at.raw(), "])"));
  }
  return uint64_t{info.stx_mnt_id};
}

Result<> detach_mount(FdRef root) {
  const std::string path = cat("/proc/self/fd/", root.raw());
  if (umount2(path.c_str(), MNT_DETACH) != 0) return failed(cat("umount2(", path, ", MNT_DETACH)"));
  return {};
}

Result<> set_selinux_label(FdRef dir, const std::string& label) {
  const Fd opened = FLUYT_TRY(open(dir, ".", O_RDONLY | O_DIRECTORY));
  if (fsetxattr(opened.raw(), "security.selinux", label.c_str(), label.size() + 1, 0) != 0) {
    return failed(cat("fsetxattr(security.selinux, ", quote(label), ")"));
  }
  return {};
}

Result<> set_root_propagation(uint64_t propagation, Depth depth) {
  const uint64_t flags = propagation | (depth == Depth::kTree ? uint64_t{MS_REC} : 0);
  if (::mount(nullptr, "/", nullptr, flags, nullptr) != 0) {
    return failed(cat("mount(\"/\", propagation ", propagation, ")"));
  }
  return {};
}

Result<uint64_t> mountinfo_id(FdRef fd) {
  struct statx info{};
  if (statx(fd.raw(), "", AT_EMPTY_PATH, STATX_MNT_ID, &info) != 0)
    return failed(cat("statx([", fd.raw(), "], STATX_MNT_ID)"));
  return info.stx_mnt_id;
}

Result<uint64_t> fs_magic(FdRef fd) {
  struct statfs info{};
  if (fstatfs(fd.raw(), &info) != 0) return failed(cat("fstatfs([", fd.raw(), "])"));
  return static_cast<uint64_t>(info.f_type);
}

namespace {

// A tree without layers: a directory as it is.
Result<Fd> clone_directory(const OverlayMount& tree) {
  const Fd top = FLUYT_TRY(open(tree.upper_dir, O_PATH | O_DIRECTORY | O_NOFOLLOW));
  const std::string place = tree.sub_path.empty() ? "." : tree.sub_path;
  Fd mount =
      FLUYT_TRY(clone_mount(FLUYT_TRY(open_in(top, place, O_PATH | O_DIRECTORY)), Depth::kOne));
  if (tree.ids.empty()) return mount;
  const Fd space = FLUYT_TRY(make_user_namespace(tree.ids.uids, tree.ids.gids));
  FLUYT_TRY_CONTEXT(map_mount(mount, space), quote(tree.upper_dir, 1024));
  return mount;
}

}  // namespace

Result<Fd> make_overlay(const OverlayMount& overlay) {
  if (overlay.lower_dirs.empty()) return clone_directory(overlay);
  std::string refused;
  if (!has_long_name(overlay) && overlay.ids.empty() && overlay.sub_path.empty()) {
    auto made = make_overlay_by_fsconfig(overlay);
    // Before 6.7 overlayfs takes no directory by a key of its own.
    if (made.ok() || made.error().errno_value() != EINVAL) return made;
    refused = made.error().message();
  }
  auto made = make_overlay_by_path(overlay);
  if (made.ok() || refused.empty()) return made;
  return std::move(made).error().add_context(cat("after ", refused));
}

}  // namespace fluyt::sys
