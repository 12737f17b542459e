#include "image/layer/tree.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>

#include "base/strings.h"
#include "image/layer/name.h"
#include "sys/file.h"

namespace fluyt::image {

namespace {

constexpr uint32_t kPermissions = 0777;
constexpr uint32_t kSpecialBits = 07000;

Error failed(std::string_view call, std::string_view name) {
  const int error = errno;
  return Error::from_errno(error, cat(call, "(", quote(name), ")"));
}

bool is_whiteout(const struct stat& info) { return S_ISCHR(info.st_mode) && info.st_rdev == 0; }

mode_t kind_of(const TarEntry& entry) {
  return entry.type == TarType::kCharDevice    ? S_IFCHR
         : entry.type == TarType::kBlockDevice ? S_IFBLK
                                               : S_IFIFO;
}

dev_t device_of(const TarEntry& entry) {
  return entry.type == TarType::kFifo ? 0 : makedev(entry.device_major, entry.device_minor);
}

timespec time_of(const TarEntry& entry) {
  return {static_cast<time_t>(entry.mtime), static_cast<int64_t>(entry.mtime_ns)};
}

}  // namespace

// The root is kept like every other directory, on a descriptor of its own; when that cannot be had,
// its first use says so.
TreeWriter::TreeWriter(sys::FdRef root, TreeLimits limits, DiskRoom room, sys::FdRef manifest,
                       FileFiller* filler)
    : root_(root),
      limits_(limits),
      room_(room),
      root_dir_(std::make_shared<Dir>(
          Dir{sys::Fd(openat(root.raw(), ".", O_PATH | O_DIRECTORY | O_CLOEXEC)), std::string()})),
      filler_(filler) {
  records_.try_emplace("");
  if (manifest.valid()) manifest_.emplace(manifest, &room_);
}

TreeWriter::~TreeWriter() = default;

Result<> TreeWriter::begin(TarEntry& entry) {
  if (++entries_ > limits_.max_entries) {
    return Error(Code::kResourceExhausted, cat("more than ", limits_.max_entries, " entries"));
  }
  walk_.grant(entry);
  file_fd_.reset();
  const std::string path = FLUYT_TRY(clean_name(entry.path));
  const ClassifiedName kind = FLUYT_TRY(classify(path));
  if (kind.kind == NameKind::kMetadata) {
    ++summary_.skipped;
    return {};
  }
  newest_mtime_ = std::max(newest_mtime_, entry.mtime);
  if (path.empty()) {
    if (entry.type == TarType::kDirectory) return make_directory(*root_dir_, "", entry);
    return Error(Code::kInvalidArgument, "the root of the layer is not a directory");
  }
  if (entry.type == TarType::kHardLink && kind.kind == NameKind::kPlain)
    return make_hard_link(path, entry);
  const DirPtr parent = FLUYT_TRY(parent_dir(path));
  if (kind.kind == NameKind::kOpaque) {
    FLUYT_TRY(record(parent->path))->opaque = true;
    return {};
  }
  if (kind.kind == NameKind::kWhiteout) return make_whiteout(*parent, kind.hidden);
  const std::string name(base_of(path));
  if (!lower_links_.empty()) lower_links_.erase(join_path(parent->path, name));
  switch (entry.type) {
    case TarType::kDirectory:
      return make_directory(*parent, name, entry);
    case TarType::kFile:
      return make_file(*parent, name, entry);
    case TarType::kSymlink:
      return make_symlink(*parent, name, entry);
    case TarType::kCharDevice:
    case TarType::kBlockDevice:
    case TarType::kFifo:
      return make_node(*parent, name, entry);
    case TarType::kHardLink:
      break;  // done above
  }
  return {};
}

// Something of this name is there already: the later entry wins. What a file had counts for, and
// whether it has another name, is not kept: finish() counts again.
Result<> TreeWriter::clear_way(const Dir& parent, const std::string& name) {
  struct stat info{};
  if (fstatat(parent.fd.raw(), name.c_str(), &info, AT_SYMLINK_NOFOLLOW) != 0)
    return failed("fstatat", name);
  list_again_ = true;
  if (is_whiteout(info)) {
    --summary_.inodes;
  } else {
    count_again_ = true;
  }
  if (!S_ISDIR(info.st_mode)) {
    if (S_ISLNK(info.st_mode)) forget_dirs();
    return unlinkat(parent.fd.raw(), name.c_str(), 0) == 0 ? Result<>() : failed("unlinkat", name);
  }
  const std::string path = join_path(parent.path, name);
  forget_dirs();
  FLUYT_TRY(sys::remove_tree(parent.fd, name));
  const std::string first = path + "/";
  const std::string behind = path + "0";  // '0' is '/' + 1
  records_.erase(path);
  records_.erase(records_.lower_bound(first), records_.lower_bound(behind));
  lower_links_.erase(lower_links_.lower_bound(first), lower_links_.lower_bound(behind));
  return {};
}

Result<> TreeWriter::take_room(uint64_t bytes) {
  summary_.disk_bytes += bytes;
  return room_.take(bytes);
}

Result<> TreeWriter::count_directory() {
  ++summary_.inodes;
  return take_room(kDiskBlock);
}

Result<> TreeWriter::make_directory(const Dir& parent, const std::string& name, TarEntry& entry) {
  const auto make = [&] {
    return mkdirat(parent.fd.raw(), name.c_str(), entry.mode & kPermissions) == 0;
  };
  bool over_whiteout = false;
  bool made = false;
  if (!name.empty() && !(made = make())) {
    if (errno != EEXIST) return failed("mkdirat", name);
    struct stat info{};
    if (fstatat(parent.fd.raw(), name.c_str(), &info, AT_SYMLINK_NOFOLLOW) != 0)
      return failed("fstatat", name);
    if (!S_ISDIR(info.st_mode)) {
      over_whiteout = is_whiteout(info);
      FLUYT_TRY(clear_way(parent, name));
      if (!make()) return failed("mkdirat", name);
      made = true;
    }
  }
  if (made) FLUYT_TRY(count_directory());
  DirRecord* to = FLUYT_TRY(record(join_path(parent.path, name)));
  to->mode = entry.mode;
  to->uid = entry.uid;
  to->gid = entry.gid;
  to->mtime = entry.mtime;
  to->mtime_ns = entry.mtime_ns;
  to->implied = false;
  // The whiteout was for the directory below; this one starts empty.
  if (over_whiteout) to->opaque = to->replaces = true;
  to->xattrs = entry.xattrs.empty() ? nullptr : std::make_unique<Xattrs>(std::move(entry.xattrs));
  return {};
}

Result<> TreeWriter::make_file(const Dir& parent, const std::string& name, TarEntry& entry) {
  const auto create = [&] {
    return openat(parent.fd.raw(), name.c_str(),
                  O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, entry.mode & kPermissions);
  };
  int fd = create();
  if (fd < 0 && errno == EEXIST) {
    FLUYT_TRY(clear_way(parent, name));
    fd = create();
  }
  if (fd < 0) return failed("openat", name);
  ++summary_.inodes;
  file_fd_ = sys::Fd(fd);
  file_ = std::move(entry);
  // Attributes are read back for the manifest, which has its order.
  file_is_small_ = filler_ != nullptr && !file_.sparse && file_.xattrs.empty() &&
                   file_.size <= FileFiller::kMaxFileBytes;
  file_path_ = join_path(parent.path, name);
  file_checksum_ = Checksum();
  file_written_ = 0;
  file_blocks_end_ = 0;
  return {};
}

Result<> TreeWriter::data(uint64_t offset, std::string_view bytes) {
  if (!file_fd_.valid()) return {};  // of an entry that is passed over
  if (manifest_) {
    file_checksum_.zeros(offset - file_written_);
    file_checksum_.update(bytes);
  }
  // A piece of a sparse file takes all of each block that it touches, once with its neighbours.
  const uint64_t first = std::max(offset / kDiskBlock, file_blocks_end_);
  const uint64_t end = (offset + bytes.size() + kDiskBlock - 1) / kDiskBlock;
  if (end > first) {
    FLUYT_TRY(take_room((end - first) * kDiskBlock));
    file_blocks_end_ = end;
  }
  file_written_ = offset + bytes.size();
  if (!file_is_small_) return write_at(file_fd_, static_cast<off_t>(offset), bytes, file_.path);
  filler_->append(bytes);
  return {};
}

Result<> TreeWriter::end() {
  if (!file_fd_.valid()) return {};
  sys::Fd fd = std::move(file_fd_);
  const FileLooks looks{
      .uid = file_.uid, .gid = file_.gid, .mode = file_.mode, .mtime = time_of(file_)};
  const uint64_t size = std::max(file_.size, file_written_);
  file_checksum_.zeros(size - file_written_);
  ManifestEntry listed{.path = std::move(file_path_),
                       .mode = S_IFREG | file_.mode,
                       .uid = file_.uid,
                       .gid = file_.gid,
                       .size = size,
                       .content = file_checksum_.value()};
  if (file_is_small_) {
    FLUYT_TRY(filler_->add(std::move(fd), looks, file_.path));
    return list(listed);
  }
  if (file_written_ < file_.size && ftruncate(fd.raw(), static_cast<off_t>(file_.size)) != 0)
    return failed("ftruncate", file_.path);
  FLUYT_TRY(set_owner_and_special_bits(fd, looks, file_.path));
  if (!file_.xattrs.empty()) FLUYT_TRY(set_xattrs(fd, file_.xattrs, file_.path));
  FLUYT_TRY(set_times(fd, looks, file_.path));
  if (manifest_ && !file_.xattrs.empty()) FLUYT_TRY(read_back(fd, listed));
  return list(listed);
}

// An ACL changes the mode, and a disk need not take every attribute.
Result<> TreeWriter::read_back(sys::FdRef fd, ManifestEntry& entry) {
  entry.mode = FLUYT_TRY(sys::stat_of(fd)).st_mode;
  entry.attributes = FLUYT_TRY(attributes_of(fd));
  return {};
}

Result<> TreeWriter::list(const ManifestEntry& entry) {
  return manifest_ && !list_again_ ? manifest_->add(entry) : Result<>();
}

Result<> TreeWriter::make_symlink(const Dir& parent, const std::string& name,
                                  const TarEntry& entry) {
  if (entry.link.empty() || entry.link.size() > kMaxPathBytes) {
    return Error(Code::kInvalidArgument, cat("symlink target of ", entry.link.size(),
                                             " bytes: 1 to ", kMaxPathBytes, " are allowed"));
  }
  const auto make = [&] {
    return symlinkat(entry.link.c_str(), parent.fd.raw(), name.c_str()) == 0;
  };
  if (!make()) {
    if (errno != EEXIST) return failed("symlinkat", name);
    FLUYT_TRY(clear_way(parent, name));
    if (!make()) return failed("symlinkat", name);
  }
  ++summary_.inodes;
  return finish_node(parent, name, entry);
}

Result<> TreeWriter::make_node(const Dir& parent, const std::string& name, const TarEntry& entry) {
  if (entry.type == TarType::kCharDevice && entry.device_major == 0 && entry.device_minor == 0) {
    // To overlayfs it would be a whiteout, which an image says with ".wh." alone. Found where an
    // image was made of another engine's storage, whose own whiteouts these were.
    ++summary_.skipped;
    return {};
  }
  const auto make = [&] {
    return mknodat(parent.fd.raw(), name.c_str(), kind_of(entry) | (entry.mode & kPermissions),
                   device_of(entry)) == 0;
  };
  if (!make()) {
    if (errno != EEXIST) return failed("mknodat", name);
    FLUYT_TRY(clear_way(parent, name));
    if (!make()) return failed("mknodat", name);
  }
  ++summary_.inodes;
  return finish_node(parent, name, entry);
}

// Owner, special bits and time of what has just been made and is no regular file. Attributes cannot
// be set on these without a path through /proc, which is not there; they are counted as skipped.
Result<> TreeWriter::finish_node(const Dir& parent, const std::string& name,
                                 const TarEntry& entry) {
  summary_.skipped += entry.xattrs.size();
  if ((entry.uid != 0 || entry.gid != 0) &&
      fchownat(parent.fd.raw(), name.c_str(), entry.uid, entry.gid, AT_SYMLINK_NOFOLLOW) != 0) {
    return failed("fchownat", name);
  }
  if (entry.type != TarType::kSymlink && (entry.mode & kSpecialBits) != 0 &&
      fchmodat(parent.fd.raw(), name.c_str(), entry.mode, 0) != 0) {
    return failed("fchmodat", name);
  }
  const std::array<timespec, 2> times{time_of(entry), time_of(entry)};
  if (utimensat(parent.fd.raw(), name.c_str(), times.data(), AT_SYMLINK_NOFOLLOW) != 0) {
    return failed("utimensat", name);
  }
  if (!manifest_) return {};
  ManifestEntry listed{.path = join_path(parent.path, name), .uid = entry.uid, .gid = entry.gid};
  if (entry.type == TarType::kSymlink) {
    Checksum target;
    target.update(entry.link);
    listed.mode = S_IFLNK | kPermissions;
    listed.content = target.value();
  } else {
    listed.mode = kind_of(entry) | entry.mode;
    listed.size = device_of(entry);
  }
  return list(listed);
}

Result<> TreeWriter::make_hard_link(const std::string& path, const TarEntry& entry) {
  const std::string target = FLUYT_TRY_CONTEXT(clean_name(entry.link), "hard link target");
  const auto no_file = [&] {
    return Error(Code::kInvalidArgument,
                 cat("hard link target ", quote(entry.link), " is not a file"));
  };
  if (target.empty() || FLUYT_TRY(classify(target)).kind != NameKind::kPlain) return no_file();
  const std::string target_name(base_of(target));
  const DirPtr target_parent = FLUYT_TRY_CONTEXT(find_dir(parent_of(target)), "hard link target");
  const DirPtr parent = FLUYT_TRY(parent_dir(path));
  const std::string name(base_of(path));
  const std::string real = join_path(parent->path, name);
  const std::string real_target =
      target_parent ? join_path(target_parent->path, target_name) : target;
  if (real == real_target) return {};

  struct stat info{};
  const bool here = target_parent && fstatat(target_parent->fd.raw(), target_name.c_str(), &info,
                                             AT_SYMLINK_NOFOLLOW) == 0;
  if (here && (S_ISDIR(info.st_mode) || is_whiteout(info))) return no_file();
  struct stat old{};
  if (fstatat(parent->fd.raw(), name.c_str(), &old, AT_SYMLINK_NOFOLLOW) == 0) {
    FLUYT_TRY(clear_way(*parent, name));
  }
  if (!here) {
    // In a layer below, or a link to such a link; resolved when the chain is known.
    const auto known = lower_links_.find(real_target);
    lower_links_[real] = known != lower_links_.end() ? known->second : target;
    return {};
  }
  lower_links_.erase(real);
  // Flags 0: a target that is a symlink is linked itself, never followed.
  if (linkat(target_parent->fd.raw(), target_name.c_str(), parent->fd.raw(), name.c_str(), 0) == 0)
    return list({.path = real, .target = real_target});
  return failed("linkat", entry.link);
}

// Hides `hidden` of the layers below. What this same layer has under that name stays, whichever of
// the two came first (image-spec layer.md: whiteouts only apply to lower layers).
Result<> TreeWriter::make_whiteout(const Dir& parent, std::string_view hidden) {
  const std::string name(hidden);
  const std::string path = join_path(parent.path, name);
  if (lower_links_.find(path) != lower_links_.end()) return {};
  if (mknodat(parent.fd.raw(), name.c_str(), S_IFCHR, makedev(0, 0)) == 0) {
    ++summary_.inodes;
    FLUYT_TRY(record(parent.path))->has_whiteouts = true;
    return list({.path = path, .mode = S_IFCHR});
  }
  if (errno != EEXIST) return failed("mknodat", name);
  const auto existing = records_.find(path);
  if (existing != records_.end()) existing->second.opaque = existing->second.replaces = true;
  return {};
}

}  // namespace fluyt::image
