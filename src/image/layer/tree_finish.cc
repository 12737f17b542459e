#include <fcntl.h>
#include <sys/stat.h>
#include <sys/xattr.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <utility>

#include "base/strings.h"
#include "image/layer/name.h"
#include "image/layer/tree.h"
#include "sys/dir_stack.h"
#include "sys/file.h"

// What TreeWriter does when all entries are in: directories get their looks, and what a chain of
// layers may change is told.

namespace fluyt::image {

namespace {

constexpr uint64_t kStatBlock = 512;  // of st_blocks, on every disk

Error failed(std::string_view call, std::string_view path) {
  const int error = errno;
  return Error::from_errno(error, cat(call, "(", quote(path), ")"));
}

}  // namespace

Result<> TreeWriter::set_xattrs(sys::FdRef fd, const Xattrs& xattrs, std::string_view path) {
  for (const auto& [name, value] : xattrs) {
    if (!is_allowed_xattr(name)) {
      ++summary_.skipped;
      continue;
    }
    if (fsetxattr(fd.raw(), name.c_str(), value.data(), value.size(), 0) == 0) continue;
    // A disk that has no such attributes is no reason to refuse the image.
    if (errno != EOPNOTSUPP) return failed(cat("fsetxattr ", quote(name)), path);
    ++summary_.skipped;
  }
  return {};
}

// By way of its parent, which is likely to be open still: a path of a thousand parts is walked
// once.
Result<> TreeWriter::finish_directory(const std::string& path, const DirRecord& record) {
  const DirPtr parent = FLUYT_TRY(find_dir(parent_of(path)));
  if (!parent) return Error(Code::kInternal, "its parent has gone");
  const std::string name = path.empty() ? "." : std::string(base_of(path));
  const sys::Fd fd = FLUYT_TRY(sys::open(parent->fd, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW));
  if ((record.uid != 0 || record.gid != 0) && fchown(fd.raw(), record.uid, record.gid) != 0) {
    return failed("fchown", path);
  }
  if (fchmod(fd.raw(), record.mode) != 0) return failed("fchmod", path);
  if (record.xattrs) FLUYT_TRY(set_xattrs(fd, *record.xattrs, path));
  // overlayfs does not look for the mark on a layer's root; who stacks the layers is told instead.
  if (record.opaque && !path.empty() && fsetxattr(fd.raw(), kOverlayOpaque, "y", 1, 0) != 0) {
    return failed(cat("fsetxattr ", kOverlayOpaque), path);
  }
  // Where no other layer has the directory, overlayfs lists it as it is, with whiteouts that nobody
  // can open, unless this mark makes it look (Linux, ovl_get_inode()). The root it always merges.
  // A disk without attributes is no reason to refuse the image.
  if (record.has_whiteouts && !path.empty() && fsetxattr(fd.raw(), kOverlayOrigin, "", 0, 0) != 0 &&
      errno != EOPNOTSUPP) {
    return failed(cat("fsetxattr ", kOverlayOrigin), path);
  }
  if (count_again_) FLUYT_TRY(count_files(fd));
  if (manifest_) FLUYT_TRY(list_directory(fd, path, record));
  // A directory that the tar says nothing of still gets the same time wherever it is unpacked.
  const timespec time{static_cast<time_t>(record.implied ? newest_mtime_ : record.mtime),
                      static_cast<int64_t>(record.implied ? 0 : record.mtime_ns)};
  const std::array<timespec, 2> times{time, time};
  if (futimens(fd.raw(), times.data()) != 0) return failed("futimens", path);
  return {};
}

// All names of a file are in this tree, so that a file of three is counted by its thirds.
Result<> TreeWriter::count_files(sys::FdRef directory) {
  sys::DirStack at = FLUYT_TRY(sys::DirStack::open(directory, "."));
  while (const dirent* entry = FLUYT_TRY(at.read())) {
    struct stat info{};
    if (fstatat(directory.raw(), entry->d_name, &info, AT_SYMLINK_NOFOLLOW) != 0)
      return failed("fstatat", entry->d_name);
    if (S_ISDIR(info.st_mode)) continue;
    Names& names = names_[info.st_nlink];
    ++names.count;
    if (!S_ISREG(info.st_mode)) continue;
    const auto bytes = std::min(static_cast<uint64_t>(info.st_size),
                                static_cast<uint64_t>(info.st_blocks) * kStatBlock);
    names.disk_bytes += (bytes + kDiskBlock - 1) / kDiskBlock * kDiskBlock;
  }
  return {};
}

Result<> TreeWriter::list_directory(sys::FdRef fd, const std::string& path,
                                    const DirRecord& record) {
  ManifestEntry entry{
      .path = path, .mode = S_IFDIR | record.mode, .uid = record.uid, .gid = record.gid};
  if (record.xattrs || record.opaque) FLUYT_TRY(read_back(fd, entry));
  FLUYT_TRY(list(entry));
  return list_from_tree_ ? list_files(fd, path) : Result<>();
}

// From what is there. A file with several names is read once.
Result<> TreeWriter::list_files(sys::FdRef directory, const std::string& path) {
  sys::DirStack at = FLUYT_TRY(sys::DirStack::open(directory, "."));
  while (const dirent* entry = FLUYT_TRY(at.read())) {
    const std::string name = entry->d_name;
    struct stat info{};
    if (fstatat(directory.raw(), name.c_str(), &info, AT_SYMLINK_NOFOLLOW) != 0)
      return failed("fstatat", name);
    if (S_ISDIR(info.st_mode)) continue;
    std::string its_path = join_path(path, name);
    if (info.st_nlink > 1) {
      const auto [first, is_first] = first_names_.try_emplace(info.st_ino, its_path);
      if (!is_first) {
        FLUYT_TRY(list({.path = std::move(its_path), .target = first->second}));
        continue;
      }
      first_name_bytes_ += its_path.size() + sizeof(ino_t) + sizeof(std::string);
      if (first_name_bytes_ > limits_.max_directory_name_bytes) {
        return Error(Code::kResourceExhausted, cat("more than ", limits_.max_directory_name_bytes,
                                                   " bytes of names of files with several names"));
      }
    }
    FLUYT_TRY(list(FLUYT_TRY(reader_.read(directory, name, std::move(its_path)))));
  }
  return {};
}

Result<> TreeWriter::report(TreeSummary& summary) {
  uint64_t bytes = 0;
  const auto count = [&](size_t more) -> Result<> {
    bytes += more;
    if (bytes <= limits_.max_reported_bytes) return {};
    return Error(Code::kResourceExhausted,
                 cat("more than ", limits_.max_reported_bytes,
                     " bytes of names of implied directories and lower links"));
  };
  // In the order of the map a directory comes before what is in it.
  for (auto& [path, record] : records_) {
    if (!path.empty()) {
      const DirRecord& above = records_.at(std::string(parent_of(path)));
      record.hidden = above.hidden || above.opaque;
    }
    if (!record.implied || record.replaces || record.hidden) continue;
    FLUYT_TRY(count(path.size() + 1));
    summary.implied_dirs.push_back(path);
  }
  for (const auto& [path, target] : lower_links_) {
    FLUYT_TRY(count(path.size() + target.size()));
    summary.lower_links.push_back({path, target});
  }
  return {};
}

Result<TreeSummary> TreeWriter::finish() {
  forget_dirs();
  if (manifest_ && list_again_) {
    FLUYT_TRY(manifest_->restart());
    list_from_tree_ = std::exchange(list_again_, false);
  }
  walk_.grant_all();  // each of them once and in their order
  for (const auto& [path, record] : records_) {
    FLUYT_TRY_CONTEXT(finish_directory(path, record), cat("directory ", quote(path)));
  }
  TreeSummary summary = std::move(summary_);
  if (count_again_) {
    summary.inodes = records_.size() - 1;  // the root is not counted
    summary.disk_bytes = summary.inodes * kDiskBlock;
    for (const auto& [links, names] : names_) {
      summary.inodes += names.count / links;
      summary.disk_bytes += names.disk_bytes / links;
    }
  }
  summary.opaque_root = records_.at("").opaque;
  if (manifest_) summary.manifest_digest = FLUYT_TRY(manifest_->finish());
  FLUYT_TRY(report(summary));
  return summary;
}

}  // namespace fluyt::image
