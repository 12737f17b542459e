#include "runtime/copy_up.h"

#include <fcntl.h>
#include <sys/sendfile.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <string>

#include "base/strings.h"
#include "sys/file.h"

namespace fluyt::runtime {

namespace {

constexpr int kMaxDepth = 256;

Error failed(std::string_view call, const std::string& name) {
  return Error::from_errno(errno, cat(call, "(", quote(name), ")"));
}

Result<> copy_dir(sys::FdRef from, sys::FdRef to, dev_t device, int depth);

Result<> copy_content(sys::FdRef from, sys::FdRef to, const std::string& name, mode_t mode) {
  const sys::Fd in = FLUYT_TRY(sys::open(from, name, O_RDONLY | O_NOFOLLOW | O_NONBLOCK));
  const sys::Fd out =
      FLUYT_TRY(sys::open(to, name, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW, mode));
  while (true) {
    const ssize_t moved = sendfile(out.raw(), in.raw(), nullptr, 1U << 20U);
    if (moved < 0 && errno != EINTR) return failed("sendfile", name);
    if (moved == 0) return {};
  }
}

Result<> copy_entry(sys::FdRef from, sys::FdRef to, const std::string& name, dev_t device,
                    int depth) {
  const auto info = FLUYT_TRY(sys::find_stat(from, name));
  if (!info) return {};
  const mode_t mode = info->st_mode & 07777;
  if (S_ISDIR(info->st_mode)) {
    if (mkdirat(to.raw(), name.c_str(), 0700) != 0) return failed("mkdirat", name);
    const sys::Fd below = FLUYT_TRY(sys::open(from, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW));
    const sys::Fd copy = FLUYT_TRY(sys::open(to, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW));
    FLUYT_TRY(copy_dir(below, copy, device, depth + 1));
  } else if (S_ISREG(info->st_mode)) {
    FLUYT_TRY(copy_content(from, to, name, 0600));
  } else if (S_ISLNK(info->st_mode)) {
    const std::string text = FLUYT_TRY(sys::read_link(from, name));
    if (symlinkat(text.c_str(), to.raw(), name.c_str()) != 0) return failed("symlinkat", name);
  } else if (mknodat(to.raw(), name.c_str(), info->st_mode, info->st_rdev) != 0) {
    return failed("mknodat", name);
  }
  if (fchownat(to.raw(), name.c_str(), info->st_uid, info->st_gid, AT_SYMLINK_NOFOLLOW) != 0) {
    return failed("fchownat", name);
  }
  if (!S_ISLNK(info->st_mode) && fchmodat(to.raw(), name.c_str(), mode, 0) != 0)
    return failed("fchmodat", name);
  return {};
}

Result<> copy_dir(sys::FdRef from, sys::FdRef to, dev_t device, int depth) {
  if (depth > kMaxDepth) return Error(Code::kResourceExhausted, "tmpcopyup: the tree is too deep");
  const struct stat info = FLUYT_TRY(sys::stat_of(from));
  if (info.st_dev != device) return {};
  for (const std::string& name : FLUYT_TRY(sys::list_dir(from))) {
    FLUYT_TRY(copy_entry(from, to, name, device, depth));
  }
  return {};
}

}  // namespace

Result<> copy_tree(sys::FdRef from, sys::FdRef to) {
  const struct stat info = FLUYT_TRY(sys::stat_of(from));
  const sys::Fd source = FLUYT_TRY(sys::open(from, ".", O_RDONLY | O_DIRECTORY));
  FLUYT_TRY(copy_dir(source, to, info.st_dev, 0));
  if (fchownat(to.raw(), "", info.st_uid, info.st_gid, AT_EMPTY_PATH) != 0)
    return failed("fchownat", ".");
  return {};
}

}  // namespace fluyt::runtime
