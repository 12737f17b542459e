#include "image/layer/compare.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <sys/xattr.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <map>
#include <set>

#include "base/strings.h"
#include "image/layer/name.h"
#include "sys/file.h"

namespace fluyt::image {

namespace {

constexpr size_t kPieceBytes = 256UL << 10U;
constexpr size_t kMaxAttributeBytes = 64UL << 10U;

Result<struct stat> stat_at(sys::FdRef folder, const std::string& name) {
  struct stat info{};
  if (::fstatat(folder.raw(), name.c_str(), &info, AT_SYMLINK_NOFOLLOW) == 0) return info;
  return Error::from_errno(errno, cat("fstatat(", quote(name), ")"));
}

// All extended attributes, overlayfs's own too: they are what makes opaque folders. That a folder
// has whiteouts is told by these themselves, and trees of earlier versions have no mark of it.
Result<std::map<std::string, std::string>> attributes_at(sys::FdRef folder,
                                                         const std::string& name) {
  // By a path of our own through the folder's descriptor: O_PATH descriptors take no attributes.
  const std::string path = cat("/proc/self/fd/", folder.raw(), "/", name);
  std::string names(kMaxAttributeBytes, '\0');
  const ssize_t size = ::llistxattr(path.c_str(), names.data(), names.size());
  if (size < 0) {
    if (errno == ENOTSUP) return std::map<std::string, std::string>();
    return Error::from_errno(errno, cat("llistxattr(", quote(name), ")"));
  }
  std::map<std::string, std::string> out;
  for (const std::string_view key :
       split(std::string_view(names).substr(0, static_cast<size_t>(size)), '\0')) {
    if (key.empty() || key == kOverlayOrigin) continue;
    std::string value(kMaxAttributeBytes, '\0');
    const ssize_t got =
        ::lgetxattr(path.c_str(), std::string(key).c_str(), value.data(), value.size());
    if (got < 0) return Error::from_errno(errno, cat("lgetxattr(", quote(name), ")"));
    value.resize(static_cast<size_t>(got));
    out.emplace(key, std::move(value));
  }
  return out;
}

class Comparison {
 public:
  Comparison(size_t limit, const BetweenSteps& between_steps)
      : limit_(limit), between_steps_(between_steps) {}

  Result<> folders(sys::FdRef found, sys::FdRef expected, const std::string& path) {
    const auto here = FLUYT_TRY(sys::list_dir(found));
    const auto there = FLUYT_TRY(sys::list_dir(expected));
    std::set<std::string> names(here.begin(), here.end());
    names.insert(there.begin(), there.end());
    for (const std::string& name : names) {
      if (out_.size() >= limit_) return {};
      FLUYT_TRY(step());
      const std::string below = cat(path, "/", name);
      if (!std::binary_search(here.begin(), here.end(), name)) {
        note(below, "is missing");
      } else if (!std::binary_search(there.begin(), there.end(), name)) {
        note(below, "does not belong there");
      } else {
        FLUYT_TRY(entries(found, expected, name, below));
      }
    }
    return {};
  }

  std::vector<std::string> take() { return std::move(out_); }

 private:
  void note(const std::string& path, std::string_view what) {
    if (out_.size() < limit_) out_.push_back(cat(quote(path), " ", what));
  }

  Result<> entries(sys::FdRef found, sys::FdRef expected, const std::string& name,
                   const std::string& path) {
    const struct stat here = FLUYT_TRY(stat_at(found, name));
    const struct stat there = FLUYT_TRY(stat_at(expected, name));
    if ((here.st_mode & S_IFMT) != (there.st_mode & S_IFMT)) {
      note(path, "is of another type");
      return {};
    }
    if (here.st_mode != there.st_mode) note(path, "has another mode");
    if (here.st_uid != there.st_uid || here.st_gid != there.st_gid) note(path, "has another owner");
    // What names it has elsewhere is no matter of the tree: fix-ups link to its files.
    bool is_first = true;
    if (!S_ISDIR(here.st_mode) && (here.st_nlink > 1 || there.st_nlink > 1)) {
      ++linked_;
      const uint64_t first = found_first_.try_emplace(here.st_ino, linked_).first->second;
      if (first != expected_first_.try_emplace(there.st_ino, linked_).first->second)
        note(path, "is hard-linked to other names");
      is_first = first == linked_;
    }
    if (here.st_mtim.tv_sec != there.st_mtim.tv_sec ||
        here.st_mtim.tv_nsec != there.st_mtim.tv_nsec) {
      note(path, "has another time");
    }
    if ((S_ISCHR(here.st_mode) || S_ISBLK(here.st_mode)) && here.st_rdev != there.st_rdev) {
      note(path, "is another device");
    }
    if (FLUYT_TRY(attributes_at(found, name)) != FLUYT_TRY(attributes_at(expected, name))) {
      note(path, "has other attributes");
    }
    if (S_ISLNK(here.st_mode)) {
      if (FLUYT_TRY(sys::read_link(found, name)) != FLUYT_TRY(sys::read_link(expected, name))) {
        note(path, "leads elsewhere");
      }
    } else if (S_ISREG(here.st_mode)) {
      if (here.st_size != there.st_size) {
        note(path, cat("has ", here.st_size, " bytes, expected ", there.st_size));
      } else if (is_first && !FLUYT_TRY(same_content(found, expected, name))) {
        note(path, "has other content");
      }
    } else if (S_ISDIR(here.st_mode)) {
      constexpr int kFlags = O_RDONLY | O_DIRECTORY | O_NOFOLLOW;
      const sys::Fd below_here = FLUYT_TRY(sys::open(found, name, kFlags));
      const sys::Fd below_there = FLUYT_TRY(sys::open(expected, name, kFlags));
      return folders(below_here, below_there, path);
    }
    return {};
  }

  Result<bool> same_content(sys::FdRef found, sys::FdRef expected, const std::string& name) {
    const sys::Fd here = FLUYT_TRY(sys::open(found, name, O_RDONLY | O_NOFOLLOW));
    const sys::Fd there = FLUYT_TRY(sys::open(expected, name, O_RDONLY | O_NOFOLLOW));
    while (true) {
      FLUYT_TRY(step());
      const size_t got = FLUYT_TRY(sys::read_some(here, one_));
      size_t other = 0;
      while (other < got) {
        const size_t more =
            FLUYT_TRY(sys::read_some(there, std::span(other_).subspan(other, got - other)));
        if (more == 0) return false;
        other += more;
      }
      if (got == 0) return true;
      if (!std::equal(one_.begin(), one_.begin() + static_cast<ptrdiff_t>(got), other_.begin())) {
        return false;
      }
    }
  }

  Result<> step() const { return between_steps_ ? between_steps_() : Result<>(); }

  size_t limit_;
  const BetweenSteps& between_steps_;
  std::vector<std::string> out_;
  uint64_t linked_ = 0;  // entries that may have another name, so far
  // Of such a file the first of its names in this tree, by its number.
  std::map<ino_t, uint64_t> found_first_;
  std::map<ino_t, uint64_t> expected_first_;
  std::string one_ = std::string(kPieceBytes, '\0');
  std::string other_ = std::string(kPieceBytes, '\0');
};

Result<> count(sys::FdRef folder, TreeCount& to, std::set<ino_t>& seen) {
  for (const std::string& name : FLUYT_TRY(sys::list_dir(folder))) {
    const struct stat info = FLUYT_TRY(stat_at(folder, name));
    if (!S_ISDIR(info.st_mode) && info.st_nlink > 1 && !seen.insert(info.st_ino).second) continue;
    ++to.inodes;
    if (S_ISREG(info.st_mode)) to.file_bytes += static_cast<uint64_t>(info.st_size);
    if (S_ISDIR(info.st_mode)) {
      FLUYT_TRY(
          count(FLUYT_TRY(sys::open(folder, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW)), to, seen));
    }
  }
  return {};
}

}  // namespace

Result<std::vector<std::string>> compare_trees(sys::FdRef found, sys::FdRef expected, size_t limit,
                                               const BetweenSteps& between_steps) {
  Comparison comparison(limit, between_steps);
  FLUYT_TRY(comparison.folders(found, expected, ""));
  return comparison.take();
}

Result<TreeCount> count_tree(sys::FdRef tree) {
  TreeCount out;
  std::set<ino_t> seen;
  FLUYT_TRY(count(tree, out, seen));
  return out;
}

}  // namespace fluyt::image
