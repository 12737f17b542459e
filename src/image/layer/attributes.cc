#include "image/layer/attributes.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <sys/xattr.h>
#include <unistd.h>

#include <array>
#include <cerrno>

#include "base/strings.h"
#include "image/layer/name.h"
#include "sys/file.h"

namespace fluyt::image {

namespace {

constexpr size_t kMaxXattrListBytes = 64UL << 10U;  // XATTR_LIST_MAX
constexpr size_t kMaxXattrBytes = 64UL << 10U;      // XATTR_SIZE_MAX
constexpr mode_t kPermissions = 07777;

Error failed(std::string_view call, std::string_view path) {
  const int error = errno;
  return Error::from_errno(error, cat(call, "(", quote(path), ")"));
}

}  // namespace

Result<Attributes> read_attributes(sys::FdRef fd, std::string_view path) {
  const struct stat info = FLUYT_TRY(sys::stat_of(fd));
  Attributes out;
  out.mode = info.st_mode & kPermissions;
  out.uid = info.st_uid;
  out.gid = info.st_gid;
  std::string names(kMaxXattrListBytes, '\0');
  const ssize_t size = flistxattr(fd.raw(), names.data(), names.size());
  if (size < 0 && errno == EOPNOTSUPP) return out;
  if (size < 0) return failed("flistxattr", path);
  names.resize(static_cast<size_t>(size));
  for (const std::string_view view : split(names, '\0')) {
    const std::string name(view);
    if (name.empty() || !is_allowed_xattr(name)) continue;
    std::string value(kMaxXattrBytes, '\0');
    const ssize_t got = fgetxattr(fd.raw(), name.c_str(), value.data(), value.size());
    if (got < 0) return failed("fgetxattr", path);
    out.xattrs[name] = value.substr(0, static_cast<size_t>(got));
  }
  return out;
}

// Owner before mode, since a new owner clears bits; attributes after both.
Result<> write_attributes(sys::FdRef fd, const Attributes& attributes, std::string_view path) {
  if (fchown(fd.raw(), attributes.uid, attributes.gid) != 0) return failed("fchown", path);
  if (fchmod(fd.raw(), attributes.mode) != 0) return failed("fchmod", path);
  for (const auto& [name, value] : attributes.xattrs) {
    if (fsetxattr(fd.raw(), name.c_str(), value.data(), value.size(), 0) != 0)
      return failed("fsetxattr", path);
  }
  return {};
}

Result<> copy_times(sys::FdRef from, sys::FdRef to, std::string_view path) {
  const struct stat info = FLUYT_TRY(sys::stat_of(from));
  const std::array<timespec, 2> times{info.st_mtim, info.st_mtim};
  if (futimens(to.raw(), times.data()) != 0) return failed("futimens", path);
  return {};
}

}  // namespace fluyt::image
