#include "image/layer/disk_room.h"

#include <sys/statvfs.h>

#include <cerrno>

#include "base/strings.h"

namespace fluyt::image {

namespace {

constexpr uint64_t kLookEvery = 1UL << 20U;

}  // namespace

Result<uint64_t> free_bytes_of(sys::FdRef on) {
  struct statvfs info{};
  if (fstatvfs(on.raw(), &info) != 0) return Error::from_errno(errno, "fstatvfs(layers)");
  return static_cast<uint64_t>(info.f_bavail) * info.f_frsize;
}

Result<> DiskRoom::take(uint64_t bytes) {
  taken_ += bytes;
  if (taken_ > max_bytes_) {
    return Error(Code::kResourceExhausted,
                 cat("the layer unpacks to more than ", max_bytes_, " bytes on the disk"));
  }
  if (keep_free_bytes_ == 0 || taken_ < look_at_) return {};
  look_at_ = taken_ + kLookEvery;
  const uint64_t free_bytes = FLUYT_TRY(free_bytes_of(on_));
  if (free_bytes >= keep_free_bytes_ + bytes) return {};
  return Error(Code::kResourceExhausted,
               cat("no space: the layer unpacks to more than there is: the disk has ", free_bytes,
                   " bytes free, and ", keep_free_bytes_, " are to stay so"));
}

}  // namespace fluyt::image
