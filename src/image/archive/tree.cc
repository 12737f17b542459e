#include "image/archive/tree.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/xattr.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <chrono>
#include <cstdint>
#include <map>
#include <thread>
#include <utility>
#include <vector>

#include "base/strings.h"
#include "base/time.h"
#include "image/layer/attributes.h"
#include "sys/file.h"
#include "sys/mount.h"

namespace fluyt::image::archive {

namespace {

using Form = TreeOptions::Form;

constexpr size_t kPiece = 256UL << 10U;
constexpr int kMaxDepth = 500;  // one descriptor a level
constexpr uint32_t kNobody = 65534;
constexpr int64_t kLeaseMs = 5000;
constexpr std::chrono::milliseconds kLeaseStep(20);

// Their files are no data, and some are larger than any disk.
constexpr std::array<uint64_t, 9> kMadeUp = {
    sys::kProcMagic, sys::kSysfsMagic, sys::kDevptsMagic, sys::kCgroup2Magic,
    0x27e0eb,    // cgroup v1
    0x64626720,  // debugfs
    0x74726163,  // tracefs
    0x73636673,  // securityfs
    0xcafe4a11,  // bpf
};

Result<bool> is_made_up(sys::FdRef fd) {
  return std::ranges::find(kMadeUp, FLUYT_TRY(sys::fs_magic(fd))) != kMadeUp.end();
}

bool is_whiteout(const struct stat& info) { return S_ISCHR(info.st_mode) && info.st_rdev == 0; }

bool is_opaque(sys::FdRef directory) {
  std::array<char, 2> value{};
  return fgetxattr(directory.raw(), "trusted.overlay.opaque", value.data(), value.size()) == 1 &&
         value[0] == 'y';
}

char type_of(const struct stat& info, Form form) {
  const bool devices = form == Form::kDiff;
  switch (info.st_mode & S_IFMT) {
    case S_IFREG:
      return '0';
    case S_IFLNK:
      return '2';
    case S_IFCHR:
      return devices ? '3' : '\0';
    case S_IFBLK:
      return devices ? '4' : '\0';
    case S_IFDIR:
      return '5';
    case S_IFIFO:
      return '6';
    default:
      return '\0';
  }
}

uint32_t inside(const std::vector<sys::IdRange>& ranges, uint32_t id) {
  if (ranges.empty()) return id;
  for (const sys::IdRange& range : ranges) {
    if (id >= range.outside && id - range.outside < range.count)
      return range.inside + (id - range.outside);
  }
  return kNobody;
}

class Walk {
 public:
  Walk(TarWriter& tar, const TreeOptions& options) : tar_(tar), options_(options) {}

  Result<> contents(sys::FdRef directory, const std::string& prefix, int depth) {
    if (depth > kMaxDepth) {
      return Error(Code::kResourceExhausted,
                   cat(quote(prefix), ": more than ", kMaxDepth, " directories in each other"));
    }
    for (const std::string& name : FLUYT_TRY(sys::list_dir(directory))) {
      FLUYT_TRY(options_.stop());
      auto what = sys::open(directory, name, O_PATH | O_NOFOLLOW);
      if (!what.ok() && what.error().code() == Code::kNotFound) continue;  // gone
      const sys::Fd fd = FLUYT_TRY(std::move(what));
      FLUYT_TRY(one(fd, prefix, name, depth));
    }
    return {};
  }

  Result<> one(sys::FdRef what, const std::string& prefix, const std::string& name, int depth) {
    const struct stat info = FLUYT_TRY(sys::stat_of(what));
    if (options_.form == Form::kDiff && is_whiteout(info))
      return tar_.file(cat(prefix, ".wh.", name), "");
    TarMember entry;
    entry.name = cat(prefix, name);
    entry.type = type_of(info, options_.form);
    if (entry.type == '\0') return {};
    entry.mode = info.st_mode & 07777U;
    entry.uid = inside(options_.ids.uids, info.st_uid);
    entry.gid = inside(options_.ids.gids, info.st_gid);
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
      entry.link = FLUYT_TRY(sys::read_link(what, ""));
      return tar_.entry(entry);
    }
    if (entry.type != '0' && entry.type != '5') return tar_.entry(entry);
    if (entry.type == '0' && options_.form == Form::kWhole && FLUYT_TRY(is_made_up(what)))
      return {};
    // The very thing that was looked at, whatever has its name by now.
    const sys::Fd fd =
        FLUYT_TRY(reopen(what, O_RDONLY | (entry.type == '5' ? O_DIRECTORY : 0), entry.name));
    entry.xattrs = FLUYT_TRY(read_attributes(fd, entry.name)).xattrs;
    if (entry.type == '0') return file(fd, static_cast<uint64_t>(info.st_size), std::move(entry));
    entry.name += '/';
    const std::string below = entry.name;
    FLUYT_TRY(tar_.entry(entry));
    if (FLUYT_TRY(is_made_up(fd))) return {};
    if (options_.form == Form::kDiff && is_opaque(fd))
      FLUYT_TRY(tar_.file(below + ".wh..wh..opq", ""));
    return contents(fd, below, depth + 1);
  }

 private:
  /// Who holds a lease (F_SETLEASE) on a file has an open wait for as long as the kernel lets it,
  /// unless the open does not block: then it is asked to give it up all the same.
  Result<sys::Fd> reopen(sys::FdRef what, int flags, const std::string& name) const {
    const std::string by = cat("/proc/self/fd/", what.raw());
    const Deadline deadline = Deadline::after_ms(kLeaseMs);
    while (true) {
      auto fd = sys::open(by, flags | O_NONBLOCK);
      if (fd.ok() || fd.error().errno_value() != EWOULDBLOCK) return fd;
      FLUYT_TRY(options_.stop());
      if (deadline.passed()) {
        return Error(Code::kUnavailable,
                     cat(quote(name, 1024), ": somebody holds a lease on it and keeps it"));
      }
      std::this_thread::sleep_for(kLeaseStep);
    }
  }

  /// Where the next byte at or behind `at` lies that is in no hole, with the descriptor there, or
  /// `size`. Where the file system does not say, that is `at`.
  static uint64_t next_data(sys::FdRef fd, uint64_t at, uint64_t size) {
    const off_t data = lseek(fd.raw(), static_cast<off_t>(at), SEEK_DATA);
    if (data >= 0) return std::min(static_cast<uint64_t>(data), size);
    return errno == ENXIO ? size : at;
  }

  Result<> zeros(uint64_t bytes, std::vector<char>& piece) {
    std::ranges::fill(piece, '\0');
    while (bytes > 0) {
      FLUYT_TRY(options_.stop());
      const size_t step = static_cast<size_t>(std::min<uint64_t>(piece.size(), bytes));
      FLUYT_TRY(tar_.data({piece.data(), step}));
      bytes -= step;
    }
    return {};
  }

  Result<> file(sys::FdRef fd, uint64_t size, TarMember entry) {
    entry.size = size;
    FLUYT_TRY(tar_.entry(entry));
    std::vector<char> piece(static_cast<size_t>(std::min<uint64_t>(kPiece, size)));
    for (uint64_t at = 0; at < size;) {
      FLUYT_TRY(options_.stop());
      const uint64_t data = next_data(fd, at, size);
      FLUYT_TRY(zeros(data - at, piece));
      at = data;
      const size_t want = static_cast<size_t>(std::min<uint64_t>(piece.size(), size - at));
      const size_t got = FLUYT_TRY(sys::read_some(fd, {piece.data(), want}));
      FLUYT_TRY(tar_.data({piece.data(), got}));
      at += got;
      if (got != 0) continue;
      FLUYT_TRY(zeros(size - at, piece));  // it has shrunk
      break;
    }
    return tar_.end_file();
  }

  TarWriter& tar_;
  const TreeOptions& options_;
  std::map<std::pair<dev_t, ino_t>, std::string>
      linked_;  // a file with several names, by its first
};

}  // namespace

Result<> write_tree(sys::FdRef what, const std::string& name, TarWriter& tar,
                    const TreeOptions& options) {
  if (FLUYT_TRY(is_made_up(what))) {
    return Error(Code::kInvalidArgument,
                 cat(quote(name, 256), ": lies on a file system that the kernel makes up"));
  }
  return Walk(tar, options).one(what, "", name, 0);
}

Result<> write_contents(sys::FdRef directory, const std::string& prefix, TarWriter& tar,
                        const TreeOptions& options) {
  return Walk(tar, options).contents(directory, prefix, 0);
}

}  // namespace fluyt::image::archive
