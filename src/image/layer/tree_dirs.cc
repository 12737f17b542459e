#include <fcntl.h>
#include <linux/openat2.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>

#include "base/strings.h"
#include "image/layer/name.h"
#include "image/layer/tree.h"
#include "sys/file.h"

// How TreeWriter gets at directories: one openat of one component a directory, kept open; one that
// was let go of comes back by its whole path, on which there is no symlink.

namespace fluyt::image {

namespace {

constexpr size_t kMaxOpenDirs = 400;  // of the 1024 descriptors that a process has by default
constexpr size_t kMaxAliases = 4096;
constexpr int kMaxHops = 40;  // what the kernel allows a path

sys::Fd open_child(sys::FdRef parent, const std::string& name) {
  return sys::Fd(openat(parent.raw(), name.c_str(), O_PATH | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC));
}

Error failed(std::string_view call, std::string_view name) {
  const int error = errno;
  return Error::from_errno(error, cat(call, "(", quote(name), ")"));
}

}  // namespace

void TreeWriter::forget_dirs() {
  open_dirs_.clear();
  opened_.clear();
  aliases_.clear();
  last_dir_.reset();
}

Result<TreeWriter::DirPtr> TreeWriter::parent_dir(std::string_view path) {
  const std::string_view parent = parent_of(path);
  if (last_dir_ && parent == last_parent_) return last_dir_;
  DirPtr found = FLUYT_TRY(dir(parent));
  last_parent_ = parent;
  last_dir_ = found;
  return found;
}

// The directory at `path`, made where it is missing (then implied).
Result<TreeWriter::DirPtr> TreeWriter::dir(std::string_view path) {
  hops_ = 0;
  create_missing_ = true;
  return open_dir(path);
}

// The directory at `path`, or nothing: a null pointer.
Result<TreeWriter::DirPtr> TreeWriter::find_dir(std::string_view path) {
  hops_ = 0;
  create_missing_ = false;
  return open_dir(path);
}

Result<TreeWriter::DirPtr> TreeWriter::open_dir(std::string_view path) {
  if (path.empty()) return root_dir_;
  const std::string key(path);
  if (const auto known = open_dirs_.find(key); known != open_dirs_.end()) return known->second;
  if (const auto known = aliases_.find(key); known != aliases_.end()) {
    return open_dir(std::string(known->second));
  }
  FLUYT_TRY(walk_.spend(1));
  if (DirPtr known = FLUYT_TRY(reopen(key))) return known;
  const DirPtr parent = FLUYT_TRY(open_dir(parent_of(path)));
  if (!parent) return DirPtr();
  const std::string real = join_path(parent->path, base_of(path));
  if (real == key) return enter(*parent, std::string(base_of(path)), real);
  DirPtr found = FLUYT_TRY(open_dir(real));
  if (found) alias(key, found->path);
  return found;
}

// A directory that was made and has been let go of since: a null pointer when `path` is no such
// one. In one call, whatever its depth, for the directories above it may be gone from here, too.
Result<TreeWriter::DirPtr> TreeWriter::reopen(const std::string& path) {
  if (!records_.contains(path) || open_dirs_.contains(std::string(parent_of(path))))
    return DirPtr();
  FLUYT_TRY(walk_.spend(static_cast<uint64_t>(std::count(path.begin(), path.end(), '/'))));
  sys::Fd fd = FLUYT_TRY(sys::open_in(root_, path, O_PATH | O_DIRECTORY | O_NOFOLLOW, 0,
                                      sys::Resolve::kBeneath, RESOLVE_NO_SYMLINKS));
  return keep(std::move(fd), path);
}

TreeWriter::DirPtr TreeWriter::keep(sys::Fd fd, const std::string& path) {
  if (open_dirs_.size() >= kMaxOpenDirs) {
    open_dirs_.erase(opened_.front());
    opened_.pop_front();
  }
  auto opened = std::make_shared<Dir>(Dir{std::move(fd), path});
  open_dirs_[path] = opened;
  opened_.push_back(path);
  return opened;
}

void TreeWriter::alias(const std::string& path, const std::string& real) {
  if (aliases_.size() >= kMaxAliases) aliases_.clear();
  aliases_[path] = real;
}

// `path` is `name` in `parent` and has no symlink but maybe that last component.
Result<TreeWriter::DirPtr> TreeWriter::enter(const Dir& parent, const std::string& name,
                                             const std::string& path) {
  sys::Fd fd = open_child(parent.fd, name);
  if (fd.valid()) return keep(std::move(fd), path);
  if (errno == ENOTDIR || errno == ELOOP) return enter_other(parent, name, path);
  if (errno != ENOENT) return failed("openat", path);
  return create_missing_ ? make_implied(parent, name, path) : DirPtr();
}

// What is there is no directory: a symlink is followed, and a whiteout of ours gives way, because
// the directory below is gone and a new one comes in its place.
Result<TreeWriter::DirPtr> TreeWriter::enter_other(const Dir& parent, const std::string& name,
                                                   const std::string& path) {
  struct stat info{};
  if (fstatat(parent.fd.raw(), name.c_str(), &info, AT_SYMLINK_NOFOLLOW) != 0)
    return failed("fstatat", path);
  if (S_ISLNK(info.st_mode)) {
    DirPtr found = FLUYT_TRY(open_dir(FLUYT_TRY(follow(parent, name))));
    if (found) alias(path, found->path);
    return found;
  }
  if (!S_ISCHR(info.st_mode) || info.st_rdev != 0) {
    return Error(Code::kInvalidArgument, cat("parent ", quote(path), " is not a directory"));
  }
  if (!create_missing_) return DirPtr();
  if (unlinkat(parent.fd.raw(), name.c_str(), 0) != 0) return failed("unlinkat", path);
  list_again_ = true;
  --summary_.inodes;
  DirPtr made = FLUYT_TRY(make_implied(parent, name, path));
  DirRecord* to = FLUYT_TRY(record(path));
  to->opaque = to->replaces = true;
  return made;
}

// Where the symlink `name` in `parent` leads, as a path without symlinks, "/" and ".." kept within
// the root as the kernel does for a process whose root it is. Directories on the way that are
// missing are made: their lower counterparts may be what the link is meant for.
Result<std::string> TreeWriter::follow(const Dir& parent, const std::string& name) {
  if (++hops_ > kMaxHops) {
    return Error(Code::kInvalidArgument,
                 cat("parent ", quote(name), ": more than ", kMaxHops, " symlinks"));
  }
  std::string target(kMaxPathBytes + 1, '\0');
  const ssize_t size = readlinkat(parent.fd.raw(), name.c_str(), target.data(), target.size());
  if (size < 0) return failed("readlinkat", name);
  target.resize(static_cast<size_t>(size));
  std::string now = target.starts_with('/') ? std::string() : parent.path;
  for (const std::string_view part : split(target, '/')) {
    if (part.empty() || part == ".") continue;
    FLUYT_TRY(walk_.spend(1));
    if (part == "..") {
      now = std::string(parent_of(now));
      continue;
    }
    const std::string next = join_path(now, part);
    if (next.size() > kMaxPathBytes) {
      return Error(Code::kInvalidArgument,
                   cat("symlink ", quote(name), " leads to a path that is too long"));
    }
    const DirPtr found = FLUYT_TRY(open_dir(next));
    now = found ? found->path : next;
  }
  return now;
}

Result<TreeWriter::DirPtr> TreeWriter::make_implied(const Dir& parent, const std::string& name,
                                                    const std::string& path) {
  if (path.size() > kMaxPathBytes) {
    return Error(Code::kInvalidArgument,
                 cat("directory ", quote(path), ": path is longer than ", kMaxPathBytes));
  }
  if (mkdirat(parent.fd.raw(), name.c_str(), 0755) != 0) return failed("mkdirat", path);
  FLUYT_TRY(count_directory());
  if (!lower_links_.empty()) lower_links_.erase(path);
  FLUYT_TRY(record(path));
  sys::Fd fd = open_child(parent.fd, name);
  if (!fd.valid()) return failed("openat", path);
  return keep(std::move(fd), path);
}

Result<TreeWriter::DirRecord*> TreeWriter::record(const std::string& path) {
  const auto [at, fresh] = records_.try_emplace(path);
  if (!fresh) return &at->second;
  record_name_bytes_ += path.size() + sizeof(DirRecord);
  if (record_name_bytes_ <= limits_.max_directory_name_bytes &&
      records_.size() <= limits_.max_entries + 1) {  // and the root
    return &at->second;
  }
  return Error(Code::kResourceExhausted,
               cat("more than ", limits_.max_entries, " directories or ",
                   limits_.max_directory_name_bytes, " bytes of their names"));
}

}  // namespace fluyt::image
