#include "image/layer/compare.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <sys/xattr.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <iterator>
#include <map>
#include <set>
#include <utility>

#include "base/strings.h"
#include "image/layer/name.h"
#include "sys/dir_stack.h"
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

Result<std::vector<std::string>> names_in(sys::DirStack& at) {
  std::vector<std::string> out;
  while (const dirent* entry = FLUYT_TRY(at.read())) out.emplace_back(entry->d_name);
  std::ranges::sort(out);
  return out;
}

// Trees are as deep as a tar's paths are long, which is more levels than a process has descriptors.
class Comparison {
 public:
  Comparison(sys::DirStack found, sys::DirStack expected, size_t limit,
             const BetweenSteps& between_steps)
      : found_(std::move(found)),
        expected_(std::move(expected)),
        limit_(limit),
        between_steps_(between_steps) {}

  Result<> run() {
    FLUYT_TRY(settle("/", begin_folder("")));
    while (out_.size() < limit_) {
      Folder& at = open_.back();
      if (at.next == at.names.size()) {
        open_.pop_back();
        if (open_.empty()) return {};
        FLUYT_TRY(found_.leave());
        FLUYT_TRY(expected_.leave());
        continue;
      }
      FLUYT_TRY(step());
      const Name& name = at.names[at.next++];
      const std::string path = cat(at.path, "/", name.text);
      if (!name.is_found) {
        note(path, "is missing");
      } else if (!name.is_expected) {
        note(path, "does not belong there");
      } else {
        FLUYT_TRY(settle(path, entries(name.text, path)));
      }
    }
    return {};
  }

  std::vector<std::string> take() { return std::move(out_); }

 private:
  struct Name {
    std::string text;
    bool is_found = false;
    bool is_expected = false;
  };
  struct Folder {
    std::string path;
    std::vector<Name> names;
    size_t next = 0;
  };

  // Of the directories where both walks stand.
  Result<> begin_folder(const std::string& path) {
    Folder& made = open_.emplace_back(path);
    const auto here = FLUYT_TRY(look(names_in(found_)));
    const auto there = FLUYT_TRY(names_in(expected_));
    std::vector<std::string> all;
    std::ranges::set_union(here, there, std::back_inserter(all));
    for (std::string& name : all) {
      const bool is_found = std::ranges::binary_search(here, name);
      const bool is_expected = std::ranges::binary_search(there, name);
      made.names.push_back({std::move(name), is_found, is_expected});
    }
    return {};
  }

  // What the disk cannot give back of the tree that is looked at is a difference, and no more.
  template <class T>
  Result<T> look(Result<T> from) {
    is_lost_ = !from.ok() && is_loss(from.error().errno_value());
    return from;
  }

  Result<> settle(const std::string& path, Result<> outcome) {
    if (outcome.ok() || !std::exchange(is_lost_, false)) return outcome;
    note(path, cat("cannot be read: ", outcome.error().message()));
    return {};
  }

  void note(const std::string& path, std::string_view what) {
    if (out_.size() < limit_) out_.push_back(cat(quote(path), " ", what));
  }

  // Its last step changes where the walks stand, and open_.
  Result<> entries(const std::string& name, const std::string& path) {
    const sys::FdRef found = found_.dir();
    const sys::FdRef expected = expected_.dir();
    const struct stat here = FLUYT_TRY(look(stat_at(found, name)));
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
    if (FLUYT_TRY(look(attributes_at(found, name))) != FLUYT_TRY(attributes_at(expected, name))) {
      note(path, "has other attributes");
    }
    if (S_ISLNK(here.st_mode)) {
      if (FLUYT_TRY(look(sys::read_link(found, name))) !=
          FLUYT_TRY(sys::read_link(expected, name))) {
        note(path, "leads elsewhere");
      }
    } else if (S_ISREG(here.st_mode)) {
      if (here.st_size != there.st_size) {
        note(path, cat("has ", here.st_size, " bytes, expected ", there.st_size));
      } else if (is_first && !FLUYT_TRY(same_content(found, expected, name))) {
        note(path, "has other content");
      }
    } else if (S_ISDIR(here.st_mode)) {
      FLUYT_TRY(look(found_.enter(name)));
      FLUYT_TRY(expected_.enter(name));
      return begin_folder(path);
    }
    return {};
  }

  Result<bool> same_content(sys::FdRef found, sys::FdRef expected, const std::string& name) {
    const sys::Fd here = FLUYT_TRY(look(sys::open(found, name, O_RDONLY | O_NOFOLLOW)));
    const sys::Fd there = FLUYT_TRY(sys::open(expected, name, O_RDONLY | O_NOFOLLOW));
    while (true) {
      FLUYT_TRY(step());
      const size_t got = FLUYT_TRY(look(sys::read_some(here, one_)));
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

  sys::DirStack found_;
  sys::DirStack expected_;
  std::vector<Folder> open_;  // as deep as the walks stand
  bool is_lost_ = false;      // what came last of look()
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

}  // namespace

Result<std::vector<std::string>> compare_trees(sys::FdRef found, sys::FdRef expected, size_t limit,
                                               const BetweenSteps& between_steps) {
  Comparison comparison(FLUYT_TRY(sys::DirStack::open(found, ".")),
                        FLUYT_TRY(sys::DirStack::open(expected, ".")), limit, between_steps);
  FLUYT_TRY(comparison.run());
  return comparison.take();
}

Result<TreeCount> count_tree(sys::FdRef tree, const BetweenSteps& between_steps) {
  TreeCount out;
  std::set<ino_t> seen;
  sys::DirStack at = FLUYT_TRY(sys::DirStack::open(tree, "."));
  while (true) {
    if (between_steps) FLUYT_TRY(between_steps());
    const dirent* entry = FLUYT_TRY(at.read());
    if (entry == nullptr) {
      if (at.depth() == 1) return out;
      FLUYT_TRY(at.leave());
      continue;
    }
    const struct stat info = FLUYT_TRY(stat_at(at.dir(), entry->d_name));
    if (!S_ISDIR(info.st_mode) && info.st_nlink > 1 && !seen.insert(info.st_ino).second) continue;
    ++out.inodes;
    if (S_ISREG(info.st_mode)) out.file_bytes += static_cast<uint64_t>(info.st_size);
    if (S_ISDIR(info.st_mode)) FLUYT_TRY(at.enter());
  }
}

}  // namespace fluyt::image
