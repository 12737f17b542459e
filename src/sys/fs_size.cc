#include "sys/fs_size.h"

#include <sys/stat.h>
#include <sys/statvfs.h>

#include <cerrno>

#include "base/strings.h"

namespace fluyt::sys {

Result<FsSize> fs_size(const std::string& path) {
  struct statvfs size{};
  while (::statvfs(path.c_str(), &size) != 0) {
    if (errno != EINTR) return Error::from_errno(errno, cat("statvfs(", quote(path, 1024), ")"));
  }
  struct stat info{};
  if (::stat(path.c_str(), &info) != 0) {
    return Error::from_errno(errno, cat("stat(", quote(path, 1024), ")"));
  }
  return FsSize{.bytes = size.f_blocks * size.f_frsize,
                .inodes = size.f_files,
                .free_inodes = size.f_favail,
                .device = info.st_dev};
}

}  // namespace fluyt::sys
