#include "sys/disk_reserve.h"

#include <fcntl.h>
#include <unistd.h>

#include "sys/file.h"

namespace fluyt::sys {

DiskReserve::DiskReserve(std::string path) : path_(std::move(path)) {
  const auto file = open(path_, O_WRONLY | O_CREAT | O_NOFOLLOW | O_CLOEXEC, 0600);
  if (file.ok() && ::fallocate(file->raw(), 0, 0, kBytes) != 0)
    remove_file(kCwd, path_).ignore("what there is of it takes room for nothing");
}

bool DiskReserve::give_up() const { return !path_.empty() && ::unlink(path_.c_str()) == 0; }

}  // namespace fluyt::sys
