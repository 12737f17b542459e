#include "image/archive/diff.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/xattr.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <map>
#include <utility>
#include <vector>

#include "base/strings.h"
#include "image/layer/attributes.h"
#include "sys/file.h"

namespace fluyt::image::archive {

namespace {

constexpr size_t kPiece = 256UL << 10U;
constexpr int kMaxDepth = 500;  // one descriptor a level

bool is_whiteout(const struct stat& info) { return S_ISCHR(info.st_mode) && info.st_rdev == 0; }

bool is_opaque(sys::FdRef directory) {
  std::array<char, 2> value{};
  return fgetxattr(directory.raw(), "trusted.overlay.opaque", value.data(), value.size()) == 1 &&
         value[0] == 'y';
}

char type_of(const struct stat& info) {
  switch (info.st_mode & S_IFMT) {
    case S_IFREG:
      return '0';
    case S_IFLNK:
      return '2';
    case S_IFCHR:
      return '3';
    case S_IFBLK:
      return '4';
    case S_IFDIR:
      return '5';
    case S_IFIFO:
      return '6';
    default:
      return '\0';
  }
}

class Diff {
 public:
  Diff(TarWriter& tar, const std::function<Result<>()>& stop) : tar_(tar), stop_(stop) {}

  /// What lies in `directory`, whose own name ends in '/' or is empty.
  Result<> inside(sys::FdRef directory, const std::string& prefix, int depth) {
    if (depth > kMaxDepth) {
      return Error(Code::kResourceExhausted,
                   cat(quote(prefix), ": more than ", kMaxDepth, " directories in each other"));
    }
    for (const std::string& name : FLUYT_TRY(sys::list_dir(directory))) {
      FLUYT_TRY(stop_());
      const auto info = FLUYT_TRY(sys::find_stat(directory, name));
      if (info) FLUYT_TRY(one(directory, name, prefix, *info, depth));
    }
    return {};
  }

 private:
  Result<> one(sys::FdRef directory, const std::string& name, const std::string& prefix,
               const struct stat& info, int depth) {
    if (is_whiteout(info)) return tar_.file(cat(prefix, ".wh.", name), "");
    TarMember entry;
    entry.name = cat(prefix, name);
    entry.type = type_of(info);
    if (entry.type == '\0') return {};
    entry.mode = info.st_mode & 07777U;
    entry.uid = info.st_uid;
    entry.gid = info.st_gid;
    entry.mtime = info.st_mtim.tv_sec;
    entry.major = major(info.st_rdev);
    entry.minor = minor(info.st_rdev);
    if (entry.type != '5' && info.st_nlink > 1) {
      const auto [first, fresh] = linked_.try_emplace({info.st_dev, info.st_ino}, entry.name);
      if (!fresh) {
        entry.type = '1';
        entry.link = first->second;
        return tar_.entry(entry);
      }
    }
    if (entry.type == '2') {
      entry.link = FLUYT_TRY(sys::read_link(directory, name));
      return tar_.entry(entry);
    }
    if (entry.type != '0' && entry.type != '5') return tar_.entry(entry);
    const int flags = O_RDONLY | O_NOFOLLOW | O_NONBLOCK | (entry.type == '5' ? O_DIRECTORY : 0);
    auto opened = sys::open(directory, name, flags);
    if (!opened.ok() && opened.error().code() == Code::kNotFound) return {};  // gone
    const sys::Fd fd = FLUYT_TRY(std::move(opened));
    entry.xattrs = FLUYT_TRY(read_attributes(fd, entry.name)).xattrs;
    if (entry.type == '0') return file(fd, std::move(entry));
    entry.name += '/';
    const std::string below = entry.name;
    FLUYT_TRY(tar_.entry(entry));
    if (is_opaque(fd)) FLUYT_TRY(tar_.file(below + ".wh..wh..opq", ""));
    return inside(fd, below, depth + 1);
  }

  Result<> file(sys::FdRef fd, TarMember entry) {
    const struct stat info = FLUYT_TRY(sys::stat_of(fd));
    if (!S_ISREG(info.st_mode)) return {};  // replaced meanwhile
    entry.size = static_cast<uint64_t>(info.st_size);
    FLUYT_TRY(tar_.entry(entry));
    std::vector<char> piece(static_cast<size_t>(std::min<uint64_t>(kPiece, entry.size)));
    for (uint64_t left = entry.size; left > 0;) {
      FLUYT_TRY(stop_());
      const size_t want = static_cast<size_t>(std::min<uint64_t>(piece.size(), left));
      size_t got = FLUYT_TRY(sys::read_some(fd, {piece.data(), want}));
      if (got == 0) {  // it has shrunk
        std::fill_n(piece.begin(), want, '\0');
        got = want;
      }
      FLUYT_TRY(tar_.data({piece.data(), got}));
      left -= got;
    }
    return tar_.end_file();
  }

  TarWriter& tar_;
  const std::function<Result<>()>& stop_;
  std::map<std::pair<dev_t, ino_t>, std::string>
      linked_;  // a file with several names, by its first
};

}  // namespace

Result<> write_diff(sys::FdRef upper, TarWriter& tar, const std::function<Result<>()>& stop) {
  return Diff(tar, stop).inside(upper, "", 0);
}

}  // namespace fluyt::image::archive
