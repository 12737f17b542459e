#include <fcntl.h>
#include <sys/inotify.h>
#include <sys/stat.h>
#include <sys/xattr.h>

#include <algorithm>

#include "guest/sys/handlers.h"

// Extended attributes: xattr(7), setxattr(2), getxattr(2), listxattr(2), removexattr(2).
namespace fluyt::guest {
namespace {

constexpr size_t kMaxName = 255;
enum class Use : uint8_t { kRead, kWrite };

ErrnoOr<NamedFile> open_file(Task& task, uint64_t fd) {
  const FilePtr file = GUEST_TRY(task.files->get(as_int(fd)));
  if ((file->flags() & O_PATH) != 0) return Errno(EBADF);
  return NamedFile{file->path(), file->inode()};
}

ErrnoOr<std::string> attribute_name(Task& task, uint64_t address) {
  ErrnoOr<std::string> name = task.get_string(address, kMaxName + 1);
  if (!name.ok()) return name.error().value() == ENAMETOOLONG ? Errno(ERANGE) : name.error();
  if (name.value().empty()) return Errno(ERANGE);
  return name;
}

/// Who may use which kind of name (xattr(7), "Extended attribute namespaces").
Errno may_use_attribute(Task& task, Inode& inode, const std::string& name, Use use) {
  const Credentials& who = task.credentials;
  if (name.starts_with("trusted.")) {
    if (who.can(kCapSysAdmin)) return kOk;
    return Errno(use == Use::kWrite ? EPERM : ENODATA);
  }
  if (name.starts_with("security.")) {
    if (use == Use::kRead) return kOk;
    if (name != "security.capability") return who.can(kCapSysAdmin) ? kOk : Errno(EPERM);
    const Stat stat = GUEST_TRY(inode.stat());
    return who.can_over(kCapSetfcap, stat.uid, stat.gid) ? kOk : Errno(EPERM);
  }
  if (!name.starts_with("user.") || name.size() == 5)
    return Errno(name == "user." ? EINVAL : EOPNOTSUPP);
  const Stat stat = GUEST_TRY(inode.stat());
  if (!S_ISREG(stat.mode) && !S_ISDIR(stat.mode))
    return Errno(use == Use::kWrite ? EPERM : ENODATA);
  const bool owner = stat.uid == who.fsuid || who.can_over_owner(kCapFowner, stat.uid);
  if (use == Use::kWrite && S_ISDIR(stat.mode) && (stat.mode & S_ISVTX) != 0 && !owner)
    return Errno(EPERM);
  return may_access(who, stat, use == Use::kWrite ? 2 : 4);
}

/// Capabilities of a file are for a root, which programs say and see in their own user namespace
/// (capabilities(7), "File capability extended attribute versioning"). The kernel's form of what a
/// program gives; EINVAL: it is none.
ErrnoOr<std::string> take_capabilities(const Task& task, std::string value) {
  const std::optional<FileCapabilities> given = read_file_capabilities(value);
  if (!given) return Errno(EINVAL);
  if (!task.credentials.user) return value;
  const uint32_t root = task.kernel_uid(given->root);
  if (root == kNoId) return Errno(EINVAL);
  return with_root(value, root);
}
/// EOVERFLOW: their root is nobody here.
ErrnoOr<std::string> show_capabilities(const Task& task, std::string value) {
  const std::optional<FileCapabilities> kept = read_file_capabilities(value);
  if (!kept || !task.credentials.user) return value;
  // What holds here is shown as what has no root of its own.
  if (applies(*kept, task.credentials) && kept->root == task.credentials.root())
    return with_root(value, 0);
  const uint32_t root = task.credentials.user->uid_of(kept->root);
  if (root == kNoId) return kept->root == 0 ? ErrnoOr<std::string>(value) : Errno(EOVERFLOW);
  return with_root(value, root);
}

ErrnoOr<uint64_t> set(Task& task, const ErrnoOr<NamedFile>& file, Arguments a) {
  const int flags = as_int(a[4]);
  if ((flags & ~(XATTR_CREATE | XATTR_REPLACE)) != 0) return Errno(EINVAL);
  const std::string name = GUEST_TRY(attribute_name(task, a[1]));
  if (a[3] > kMaxAttribute) return Errno(E2BIG);
  std::string value(a[3], '\0');
  if (!value.empty()) GUEST_TRY(task.copy_in(a[2], std::as_writable_bytes(std::span(value))));
  if (!file.ok()) return file.error();
  GUEST_TRY(may_be_changed(task, file.value()));
  GUEST_TRY(may_use_attribute(task, *file.value().inode, name, Use::kWrite));
  if (name == "security.capability") value = GUEST_TRY(take_capabilities(task, std::move(value)));
  // Both at once is what neither allows: there already, or not there.
  if (flags == (XATTR_CREATE | XATTR_REPLACE)) {
    const bool there = file.value().inode->get_attribute(name).ok();
    return Errno(there ? EEXIST : ENODATA);
  }
  GUEST_TRY(file.value().inode->set_attribute(name, value, static_cast<AttributeMode>(flags)));
  tell_changed(task, file.value(), IN_ATTRIB);
  return uint64_t{0};
}
static_assert(static_cast<int>(AttributeMode::kCreate) == XATTR_CREATE);
static_assert(static_cast<int>(AttributeMode::kReplace) == XATTR_REPLACE);

/// Into the caller's buffer, or its length alone when that has no room at all.
ErrnoOr<uint64_t> give(Task& task, const std::string& bytes, uint64_t address, uint64_t room) {
  if (room == 0) return uint64_t{bytes.size()};
  if (bytes.size() > room) return Errno(ERANGE);
  GUEST_TRY(task.copy_out(address, std::as_bytes(std::span(bytes))));
  return uint64_t{bytes.size()};
}

ErrnoOr<uint64_t> get(Task& task, const ErrnoOr<NamedFile>& file, Arguments a) {
  const std::string name = GUEST_TRY(attribute_name(task, a[1]));
  if (!file.ok()) return file.error();
  GUEST_TRY(may_use_attribute(task, *file.value().inode, name, Use::kRead));
  std::string value = GUEST_TRY(file.value().inode->get_attribute(name));
  if (name == "security.capability") value = GUEST_TRY(show_capabilities(task, std::move(value)));
  return give(task, value, a[2], a[3]);
}

ErrnoOr<uint64_t> list(Task& task, const ErrnoOr<NamedFile>& file, Arguments a) {
  if (!file.ok()) return file.error();
  const std::vector<std::string> names = GUEST_TRY(file.value().inode->list_attributes());
  std::string out;
  for (const std::string& name : names) {
    if (name.starts_with("trusted.") && !task.credentials.can(kCapSysAdmin)) continue;
    out += name;
    out += '\0';
  }
  if (out.size() > kMaxAttribute) return Errno(E2BIG);
  return give(task, out, a[1], a[2]);
}

ErrnoOr<uint64_t> remove(Task& task, const ErrnoOr<NamedFile>& file, Arguments a) {
  const std::string name = GUEST_TRY(attribute_name(task, a[1]));
  if (!file.ok()) return file.error();
  GUEST_TRY(may_be_changed(task, file.value()));
  GUEST_TRY(may_use_attribute(task, *file.value().inode, name, Use::kWrite));
  GUEST_TRY(file.value().inode->remove_attribute(name));
  tell_changed(task, file.value(), IN_ATTRIB);
  return uint64_t{0};
}

ErrnoOr<NamedFile> followed(Task& task, uint64_t path) { return named_file(task, kAtCwd, path, 0); }
ErrnoOr<NamedFile> itself(Task& task, uint64_t path) {
  return named_file(task, kAtCwd, path, AT_SYMLINK_NOFOLLOW);
}

}  // namespace

ErrnoOr<uint64_t> sys_setxattr(Task& task, Arguments a) {
  return set(task, followed(task, a[0]), a);
}
ErrnoOr<uint64_t> sys_lsetxattr(Task& task, Arguments a) {
  return set(task, itself(task, a[0]), a);
}
ErrnoOr<uint64_t> sys_fsetxattr(Task& task, Arguments a) {
  return set(task, open_file(task, a[0]), a);
}
ErrnoOr<uint64_t> sys_getxattr(Task& task, Arguments a) {
  return get(task, followed(task, a[0]), a);
}
ErrnoOr<uint64_t> sys_lgetxattr(Task& task, Arguments a) {
  return get(task, itself(task, a[0]), a);
}
ErrnoOr<uint64_t> sys_fgetxattr(Task& task, Arguments a) {
  return get(task, open_file(task, a[0]), a);
}
ErrnoOr<uint64_t> sys_listxattr(Task& task, Arguments a) {
  return list(task, followed(task, a[0]), a);
}
ErrnoOr<uint64_t> sys_llistxattr(Task& task, Arguments a) {
  return list(task, itself(task, a[0]), a);
}
ErrnoOr<uint64_t> sys_flistxattr(Task& task, Arguments a) {
  return list(task, open_file(task, a[0]), a);
}
ErrnoOr<uint64_t> sys_removexattr(Task& task, Arguments a) {
  return remove(task, followed(task, a[0]), a);
}
ErrnoOr<uint64_t> sys_lremovexattr(Task& task, Arguments a) {
  return remove(task, itself(task, a[0]), a);
}
ErrnoOr<uint64_t> sys_fremovexattr(Task& task, Arguments a) {
  return remove(task, open_file(task, a[0]), a);
}

}  // namespace fluyt::guest
