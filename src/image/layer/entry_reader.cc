#include "image/layer/entry_reader.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <sys/xattr.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>

#include "base/strings.h"
#include "image/layer/name.h"
#include "sys/file.h"

namespace fluyt::image {

namespace {

constexpr size_t kPieceBytes = 256UL << 10U;
constexpr size_t kMaxAttributeBytes = 64UL << 10U;  // XATTR_LIST_MAX, XATTR_SIZE_MAX

Error failed(std::string_view call, std::string_view name) {
  const int error = errno;
  return Error::from_errno(error, cat(call, "(", quote(name), ")"));
}

bool counts(std::string_view attribute) {
  if (attribute == kOverlayOpaque) return true;
  return is_allowed_xattr(attribute) && !attribute.starts_with("system.");
}

}  // namespace

bool is_loss(int error) {
  return error == EIO || error == EUCLEAN || error == EBADMSG || error == EXDEV ||
         error == ENAMETOOLONG;
}

Result<uint64_t> attributes_of(sys::FdRef fd) {
  std::string names(kMaxAttributeBytes, '\0');
  const ssize_t size = flistxattr(fd.raw(), names.data(), names.size());
  if (size < 0 && errno == EOPNOTSUPP) return uint64_t{0};
  if (size < 0) return Error::from_errno(errno, "flistxattr");
  names.resize(static_cast<size_t>(size));
  uint64_t sum = 0;  // of the list's order nothing is known
  for (const std::string_view view : split(names, '\0')) {
    if (view.empty() || !counts(view)) continue;
    const std::string name(view);
    std::string value(kMaxAttributeBytes, '\0');
    const ssize_t got = fgetxattr(fd.raw(), name.c_str(), value.data(), value.size());
    if (got < 0) return failed("fgetxattr", name);
    Checksum checksum;
    checksum.update(name);
    checksum.zeros(1);
    checksum.update(std::string_view(value).substr(0, static_cast<size_t>(got)));
    sum += checksum.value();
  }
  return sum;
}

// From one piece of data to the next: a file of a terabyte may be all hole.
Result<uint64_t> EntryReader::content_of(sys::FdRef file, uint64_t size) {
  buffer_.resize(kPieceBytes);
  Checksum checksum;
  uint64_t done = 0;
  while (done < size) {
    const off_t data = lseek(file.raw(), static_cast<off_t>(done), SEEK_DATA);
    if (data < 0 && errno == ENXIO) break;  // none follows
    if (data < 0) return Error::from_errno(errno, "lseek(SEEK_DATA)");
    const off_t end = lseek(file.raw(), data, SEEK_HOLE);
    if (end < 0) return Error::from_errno(errno, "lseek(SEEK_HOLE)");
    checksum.zeros(static_cast<uint64_t>(data) - done);
    done = static_cast<uint64_t>(data);
    while (done < static_cast<uint64_t>(end)) {
      if (between_steps_) FLUYT_TRY(between_steps_());
      const size_t wanted = std::min<uint64_t>(buffer_.size(), static_cast<uint64_t>(end) - done);
      const ssize_t got = pread(file.raw(), buffer_.data(), wanted, static_cast<off_t>(done));
      if (got < 0 && errno == EINTR) continue;
      if (got < 0) return Error::from_errno(errno, "pread");
      if (got == 0) return Error(Code::kAborted, "it becomes shorter while it is read");
      checksum.update(std::string_view(buffer_).substr(0, static_cast<size_t>(got)));
      done += static_cast<uint64_t>(got);
    }
  }
  if (done < size) checksum.zeros(size - done);
  return checksum.value();
}

Result<ManifestEntry> EntryReader::read(sys::FdRef parent, const std::string& name,
                                        std::string path) {
  struct stat info{};
  if (fstatat(parent.raw(), name.c_str(), &info, AT_SYMLINK_NOFOLLOW) != 0)
    return failed("fstatat", name);
  ManifestEntry entry{
      .path = std::move(path), .mode = info.st_mode, .uid = info.st_uid, .gid = info.st_gid};
  if (S_ISLNK(info.st_mode)) {
    Checksum checksum;
    checksum.update(FLUYT_TRY(sys::read_link(parent, name)));
    entry.content = checksum.value();
  } else if (S_ISCHR(info.st_mode) || S_ISBLK(info.st_mode)) {
    entry.size = info.st_rdev;
  } else if (S_ISREG(info.st_mode) || S_ISDIR(info.st_mode)) {
    const int flags =
        O_RDONLY | O_NOFOLLOW | O_NONBLOCK | (S_ISDIR(info.st_mode) ? O_DIRECTORY : 0);
    const sys::Fd fd = FLUYT_TRY(sys::open(parent, name, flags));
    entry.attributes = FLUYT_TRY(attributes_of(fd));
    if (S_ISREG(info.st_mode)) {
      entry.size = static_cast<uint64_t>(info.st_size);
      entry.content = FLUYT_TRY(content_of(fd, entry.size));
    }
  }
  return entry;
}

}  // namespace fluyt::image
