#include <fcntl.h>
#include <linux/fs.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <map>
#include <set>
#include <utility>
#include <vector>

#include "base/strings.h"
#include "image/layer/attributes.h"
#include "image/layer/name.h"
#include "image/layer/view.h"
#include "sys/file.h"

// Copies of what a view shows: one object, and the whole tree.

namespace fluyt::image {

namespace {

constexpr mode_t kPermissions = 07777;
constexpr off_t kCopyBytes = 256L << 10U;

Error failed(std::string_view call, std::string_view name) {
  const int error = errno;
  return Error::from_errno(error, cat(call, "(", quote(name), ")"));
}

// By way of our memory: from an image to a tree of files the kernel does not copy by itself.
Result<> copy_piece(const sys::Fd& from, const sys::Fd& to, off_t at, off_t end,
                    std::string_view name) {
  std::vector<char> buffer(static_cast<size_t>(std::min<off_t>(end - at, kCopyBytes)));
  while (at < end) {
    const size_t wanted = static_cast<size_t>(std::min<off_t>(end - at, kCopyBytes));
    const ssize_t got = pread(from.raw(), buffer.data(), wanted, at);
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) return failed("pread", name);
    if (got == 0) return Error(Code::kDataLoss, cat(quote(name), ": is shorter than it said"));
    for (ssize_t done = 0; done < got;) {
      const ssize_t put =
          pwrite(to.raw(), buffer.data() + done, static_cast<size_t>(got - done), at + done);
      if (put < 0 && errno != EINTR) return failed("pwrite", name);
      if (put > 0) done += put;
    }
    at += got;
  }
  return {};
}

// Holes stay holes.
Result<> copy_data(const sys::Fd& from, const sys::Fd& to, off_t size, std::string_view name) {
  if (ioctl(to.raw(), FICLONE, from.raw()) == 0) return {};
  if (ftruncate(to.raw(), size) != 0) return failed("ftruncate", name);
  for (off_t at = 0; at < size;) {
    const off_t data = lseek(from.raw(), at, SEEK_DATA);
    if (data < 0 && errno == ENXIO) return {};
    if (data < 0) return failed("lseek", name);
    at = lseek(from.raw(), data, SEEK_HOLE);
    if (at < 0) return failed("lseek", name);
    FLUYT_TRY(copy_piece(from, to, data, at, name));
  }
  return {};
}

Result<> copy_file(const LayerView::Found& from, sys::FdRef into, const std::string& name) {
  const sys::Fd source =
      FLUYT_TRY(sys::open(*from.parent, from.name, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_NOCTTY));
  const sys::Fd to = FLUYT_TRY(sys::open(into, name, O_RDWR | O_CREAT | O_EXCL | O_NOFOLLOW, 0600));
  FLUYT_TRY(copy_data(source, to, from.info.st_size, name));
  FLUYT_TRY(write_attributes(to, FLUYT_TRY(read_attributes(source, name)), name));
  return copy_times(source, to, name);
}

Result<> make_other(const LayerView::Found& from, sys::FdRef into, const std::string& name) {
  if (S_ISLNK(from.info.st_mode)) {
    const std::string target = FLUYT_TRY(sys::read_link(*from.parent, from.name));
    if (symlinkat(target.c_str(), into.raw(), name.c_str()) != 0) return failed("symlinkat", name);
  } else if (mknodat(into.raw(), name.c_str(), from.info.st_mode & ~kPermissions,
                     from.info.st_rdev) != 0) {
    return failed("mknodat", name);
  }
  if (fchownat(into.raw(), name.c_str(), from.info.st_uid, from.info.st_gid, AT_SYMLINK_NOFOLLOW) !=
      0) {
    return failed("fchownat", name);
  }
  if (!S_ISLNK(from.info.st_mode) &&
      fchmodat(into.raw(), name.c_str(), from.info.st_mode & kPermissions, 0) != 0) {
    return failed("fchmodat", name);
  }
  const std::array<timespec, 2> times{from.info.st_mtim, from.info.st_mtim};
  if (utimensat(into.raw(), name.c_str(), times.data(), AT_SYMLINK_NOFOLLOW) != 0) {
    return failed("utimensat", name);
  }
  return {};
}

}  // namespace

Result<> copy_object(const LayerView::Found& from, sys::FdRef into, const std::string& name) {
  if (S_ISREG(from.info.st_mode)) return copy_file(from, into, name);
  return S_ISSOCK(from.info.st_mode) ? Result<>() : make_other(from, into, name);
}

/// One run of LayerView::copy_to: into a new tree that nobody else writes to.
class TreeCopy {
 public:
  explicit TreeCopy(sys::FdRef into) : into_(into) {}

  Result<> directory(const LayerView::MergedPtr& from, sys::FdRef to, const std::string& path) {
    for (const std::string& name : FLUYT_TRY(names_in(*from))) {
      const auto entry = FLUYT_TRY(LayerView::look_up(from, name));
      if (entry) FLUYT_TRY(add(*entry, to, name, join_path(path, name)));
    }
    // Last, when nothing is made in it any more.
    const auto shown = FLUYT_TRY(from->open_part(0));
    FLUYT_TRY(write_attributes(to, FLUYT_TRY(read_attributes(*shown, path)), path));
    return copy_times(*shown, to, path);
  }

 private:
  static Result<std::set<std::string>> names_in(LayerView::Merged& from) {
    std::set<std::string> out;
    for (size_t place = 0;; ++place) {
      const auto part = FLUYT_TRY(from.open_part(place));
      if (!part) return out;
      for (std::string& name : FLUYT_TRY(sys::list_dir(*part))) out.insert(std::move(name));
    }
  }

  Result<> add(const LayerView::Entry& entry, sys::FdRef to, const std::string& name,
               const std::string& path) {
    if (entry.directory) {
      if (mkdirat(to.raw(), name.c_str(), 0700) != 0) return failed("mkdirat", path);
      const sys::Fd made = FLUYT_TRY(sys::open(to, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW));
      return directory(entry.directory, made, path);
    }
    if (entry.found.info.st_nlink < 2) return copy_object(entry.found, to, name);
    const std::pair key(entry.found.info.st_dev, entry.found.info.st_ino);
    const auto [first, fresh] = linked_.try_emplace(key, path);
    if (fresh) return copy_object(entry.found, to, name);
    const sys::Fd parent =
        FLUYT_TRY(sys::open_in(into_, parent_of(first->second), O_RDONLY | O_DIRECTORY));
    const std::string base(base_of(first->second));
    if (linkat(parent.raw(), base.c_str(), to.raw(), name.c_str(), 0) == 0) return {};
    return failed("linkat", path);
  }

  const sys::FdRef into_;
  std::map<std::pair<dev_t, ino_t>, std::string> linked_;  // the first name of each
};

Result<> LayerView::copy_to(sys::FdRef into) const {
  return TreeCopy(into).directory(root_, into, "");
}

}  // namespace fluyt::image
