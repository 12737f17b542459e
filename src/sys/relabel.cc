#include "sys/relabel.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/xattr.h>

#include <array>
#include <cerrno>
#include <optional>
#include <set>
#include <string_view>
#include <utility>

#include "base/strings.h"
#include "sys/dir_stack.h"
#include "sys/fd.h"
#include "sys/file.h"
#include "sys/mount.h"

namespace fluyt::sys {

namespace {

constexpr const char* kAttribute = "security.selinux";
constexpr size_t kMaxLabel = 4096;
constexpr int kMaxNested = 64;  // mounts below mounts
constexpr int kMaxLinks = 8;    // on the way to a place of the host

std::string path_of(FdRef fd) {
  auto path = read_link(kCwd, cat("/proc/self/fd/", fd.raw()));
  return path.ok() ? quote(*path, 1024) : cat("[", fd.raw(), "]");
}

struct Seen {
  dev_t device;
  ino_t inode;
  uint64_t mount;
  bool is_directory;
};

Result<Seen> look_at(FdRef file) {
  struct statx info{};
  constexpr unsigned kWanted = STATX_TYPE | STATX_INO | STATX_MNT_ID;
  if (statx(file.raw(), "", AT_EMPTY_PATH | AT_SYMLINK_NOFOLLOW, kWanted, &info) != 0)
    return Error::from_errno(errno, cat("statx(", path_of(file), ")"));
  return Seen{.device = makedev(info.stx_dev_major, info.stx_dev_minor),
              .inode = info.stx_ino,
              .mount = info.stx_mnt_id,
              .is_directory = S_ISDIR(info.stx_mode)};
}

/// The path without the link that it ends in; none: it is no link.
Result<std::optional<std::string>> behind_link(FdRef file, const std::string& path) {
  using Behind = std::optional<std::string>;
  if (!S_ISLNK(FLUYT_TRY(stat_of(file)).st_mode)) return Behind();
  std::string target = FLUYT_TRY(read_link(file, ""));
  if (target.starts_with('/')) return Behind(std::move(target));
  return Behind(cat(path.substr(0, path.rfind('/') + 1), target));
}

class Relabelling {
 public:
  Relabelling(const std::string& label, KeptPlaces* kept, Deadline deadline)
      : label_(label), kept_(kept), deadline_(deadline) {}

  // `file` (O_PATH) and what is below it.
  Result<> tree(FdRef file, int nested) {
    if (nested > kMaxNested) {
      return Error(Code::kResourceExhausted,
                   cat(path_of(file), ": more than ", kMaxNested, " mounts in each other"));
    }
    switch (FLUYT_TRY(one(file))) {
      case Below::kNothing:
        return {};
      case Below::kFiles:
        return files_below(file, nested);
      case Below::kMounts:
        return mounts_below(file, nested);
    }
    return {};
  }

 private:
  // What there may be below a file to have a label.
  enum class Below { kNothing, kFiles, kMounts };

  Result<Below> one(FdRef file) {
    if (deadline_.passed())
      return Error(Code::kDeadlineExceeded, cat(path_of(file), ": not labelled in time"));
    const Seen seen = FLUYT_TRY(look_at(file));
    if (kept_ != nullptr) {
      FLUYT_TRY(kept_->meet(seen.mount));
      if (kept_->has(seen.device, seen.inode)) {
        return Error(Code::kInvalidArgument,
                     cat(path_of(file), ": a place of the host whose label nothing may change"));
      }
    }
    const bool labelled = FLUYT_TRY(set_label(file, seen.mount));
    if (!seen.is_directory) return Below::kNothing;
    return labelled ? Below::kFiles : Below::kMounts;
  }

  // False: its file system keeps no labels.
  Result<bool> set_label(FdRef file, uint64_t mount) {
    // A descriptor opened with O_PATH has no attributes; its link in procfs leads to the very file,
    // and where that is a link to the link itself.
    const std::string link = cat("/proc/self/fd/", file.raw());
    std::array<char, kMaxLabel> had{};
    const ssize_t size = ::getxattr(link.c_str(), kAttribute, had.data(), had.size());
    std::string_view now(had.data(), size > 0 ? static_cast<size_t>(size) : 0);
    if (now.ends_with('\0')) now.remove_suffix(1);
    if (size > 0 && now == label_) return true;
    if (::setxattr(link.c_str(), kAttribute, label_.c_str(), label_.size() + 1, 0) == 0)
      return true;
    const int error = errno;
    if (error == EOPNOTSUPP) return false;
    // Of a read-only mount the kernel says so before it looks for labels.
    if (error == EROFS) {
      const MountedAt* at = FLUYT_TRY(mounts())->find(mount);
      if (at != nullptr && !at->keeps_labels) return false;
    }
    return Error::from_errno(
        error, cat("setxattr(", path_of(file), ", ", kAttribute, ", ", quote(label_), ")"));
  }

  Result<const MountTable*> mounts() {
    if (!mounts_) mounts_ = FLUYT_TRY(MountTable::read());
    return &*mounts_;
  }

  // There may be millions of files in between.
  Result<> mounts_below(FdRef directory, int nested) {
    const uint64_t mount = FLUYT_TRY(mountinfo_id(directory));
    std::string above = FLUYT_TRY(read_link(kCwd, cat("/proc/self/fd/", directory.raw())));
    if (!above.ends_with('/')) above += '/';
    std::set<std::string> places;
    for (const MountedAt& at : FLUYT_TRY(mounts())->all()) {
      if (at.parent == mount && at.point.starts_with(above) && at.point.size() > above.size())
        places.insert(at.point.substr(above.size()));
    }
    for (const std::string& place : places) {
      auto found = open_in(directory, place, O_PATH | O_NOFOLLOW);
      if (!found.ok() && found.error().errno_value() == ENOENT) continue;
      FLUYT_TRY(tree(FLUYT_TRY(std::move(found)), nested + 1));
    }
    return {};
  }

  Result<> files_below(FdRef directory, int nested) {
    DirStack at = FLUYT_TRY(DirStack::open(directory, "."));
    while (true) {
      const dirent* entry = FLUYT_TRY(at.read());
      if (entry != nullptr) {
        FLUYT_TRY(take(at, entry->d_name, nested));
      } else if (at.depth() == 1) {
        return {};
      } else {
        FLUYT_TRY(leave(at));
      }
    }
  }

  static Result<> leave(DirStack& at) {
    const size_t depth = at.depth();
    auto left = at.leave();
    if (left.ok() || at.depth() + 1 == depth) return {};
    return std::move(left).error();
  }

  Result<> take(DirStack& at, const std::string& name, int nested) {
    auto file = open(at.dir(), name, O_PATH | O_NOFOLLOW);
    if (!file.ok() && file.error().errno_value() == ENOENT) return {};
    const Fd found = FLUYT_TRY(std::move(file));
    const Below below = FLUYT_TRY(one(found));
    if (below == Below::kNothing) return {};
    if (below == Below::kMounts) return mounts_below(found, nested);
    auto entered = at.enter();
    if (entered.ok()) return {};
    switch (entered.error().errno_value()) {
      case EXDEV:
        return tree(found, nested + 1);
      case ENOENT:  // it has gone, or something else is there by now
      case ENOTDIR:
      case ELOOP:
        return {};
      default:
        return entered;
    }
  }

  const std::string& label_;
  KeptPlaces* const kept_;
  const Deadline deadline_;
  std::optional<MountTable> mounts_;
};

}  // namespace

const std::vector<std::string>& never_relabelled() {
  static const std::vector<std::string> places = {
      "/",           "/bin",     "/boot", "/dev",     "/etc",     "/etc/passwd", "/etc/pki",
      "/etc/shadow", "/home",    "/lib",  "/lib64",   "/media",   "/opt",        "/proc",
      "/root",       "/run",     "/sbin", "/srv",     "/sys",     "/tmp",        "/usr",
      "/usr/bin",    "/usr/lib", "/var",  "/var/lib", "/var/log", "/var/tmp"};
  return places;
}

Result<KeptPlaces> KeptPlaces::find(const std::vector<std::string>& places) {
  KeptPlaces found;
  found.mounts_ = FLUYT_TRY(MountTable::read());
  for (std::string path : places) {
    for (int links = 0;; ++links) {
      if (const MountedAt* at = found.mounts_.find_at(path)) {
        found.later_.push_back({path, at->device});
        break;
      }
      auto file = open(path, O_PATH | O_NOFOLLOW);
      if (!file.ok() && file.error().errno_value() == ENOENT) break;
      const Fd opened = FLUYT_TRY(std::move(file));
      if (links == kMaxLinks) return Error::from_errno(ELOOP, quote(path, 1024));
      if (auto behind = FLUYT_TRY(behind_link(opened, path))) {
        path = std::move(*behind);
        continue;
      }
      const Seen seen = FLUYT_TRY(look_at(opened));
      found.kept_.emplace(seen.device, seen.inode);
      break;
    }
  }
  return found;
}

Result<> KeptPlaces::meet(uint64_t mount) {
  if (!met_.insert(mount).second) return {};
  // Of a mount of another namespace, or of one that is newer than the table, nothing is known.
  const MountedAt* const at = mounts_.find(mount);
  for (const Later& place : later_) {
    if (at != nullptr && at->device != place.device) continue;
    auto file = open(place.path, O_PATH);
    if (!file.ok() && file.error().errno_value() == ENOENT) continue;
    const Seen seen = FLUYT_TRY(look_at(FLUYT_TRY(std::move(file))));
    kept_.emplace(seen.device, seen.inode);
  }
  return {};
}

Result<> relabel(const std::string& path, const std::string& label, KeptPlaces* kept,
                 Deadline deadline) {
  const Fd top = FLUYT_TRY(open(path, O_PATH));
  return Relabelling(label, kept, deadline).tree(top, 0);
}

}  // namespace fluyt::sys
