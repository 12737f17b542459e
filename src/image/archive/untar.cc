#include "image/archive/untar.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <cstring>
#include <optional>
#include <utility>

#include "base/strings.h"
#include "image/archive/members.h"
#include "image/layer/tar.h"
#include "sys/file.h"
#include "sys/file_owner.h"

namespace fluyt::image::archive {

namespace {

constexpr mode_t kPermissions = 07777;
constexpr mode_t kSetIds = S_ISUID | S_ISGID;

Error failed(std::string_view call, std::string_view path) {
  const int error = errno;
  if (error == EOVERFLOW) {
    return Error(Code::kFailedPrecondition,
                 cat(quote(path, 1024), ": the file system there knows no such owner"));
  }
  return Error::from_errno(error, cat(call, "(", quote(path, 1024), ")"));
}

Error wrong(std::string_view path, std::string_view what) {
  return Error(Code::kInvalidArgument, cat(quote(path, 1024), ": ", what));
}

Result<uint32_t> outside(const std::vector<sys::IdRange>& ranges, uint32_t id,
                         std::string_view path) {
  if (ranges.empty()) return id;
  for (const sys::IdRange& range : ranges) {
    if (id >= range.inside && id - range.inside < range.count)
      return range.outside + (id - range.inside);
  }
  return wrong(path, cat("its owner ", id, " is nobody there"));
}

bool all_zero(std::string_view bytes) {
  return bytes.empty() || (bytes.front() == '\0' &&
                           std::memcmp(bytes.data(), bytes.data() + 1, bytes.size() - 1) == 0);
}

// Where an entry is made: its name in a directory that was resolved in the root.
struct Place {
  sys::FdRef parent;
  std::string name;
};

class TreeSink final : public TarSink {
 public:
  TreeSink(sys::Fd root, UntarOptions options)
      : root_(std::move(root)), options_(std::move(options)) {}

  Result<> begin(TarEntry& entry) override {
    const auto clean = clean_name(entry.path);
    if (!clean) return wrong(entry.path, "a name without \"..\" is expected");
    entry.path = *clean;
    if (clean->empty()) {  // the folder itself
      if (entry.type == TarType::kDirectory) return {};
      return wrong(entry.path, "a name is expected");
    }
    const Place place = FLUYT_TRY(place_of(*clean));
    if (options_.may_make) FLUYT_TRY(options_.may_make(place.parent, place.name));
    switch (entry.type) {
      case TarType::kDirectory:
        return directory(place, entry);
      case TarType::kFile:
        return file(place, entry);
      case TarType::kSymlink:
        return symlink(place, entry);
      case TarType::kHardLink:
        return hard_link(place, entry);
      case TarType::kFifo:
        return fifo(place, entry);
      case TarType::kCharDevice:
      case TarType::kBlockDevice:
        break;
    }
    return wrong(entry.path, "is a device");
  }

  Result<> data(uint64_t offset, std::string_view bytes) override {
    if (all_zero(bytes)) return {};  // a hole, whose end is the next piece or ftruncate's
    while (!bytes.empty()) {
      const ssize_t written =
          pwrite(file_.raw(), bytes.data(), bytes.size(), static_cast<off_t>(offset));
      if (written < 0 && errno == EINTR) continue;
      if (written < 0) return failed("pwrite", entry_.path);
      bytes.remove_prefix(static_cast<size_t>(written));
      offset += static_cast<uint64_t>(written);
    }
    return {};
  }

  Result<> end() override {
    if (!file_.valid()) return {};
    const sys::Fd file = std::exchange(file_, {});
    if (ftruncate(file.raw(), static_cast<off_t>(entry_.size)) != 0)  // it may end with a hole
      return failed("ftruncate", entry_.path);
    FLUYT_TRY(looks(file, entry_));
    const auto times = times_of(entry_);
    if (futimens(file.raw(), times.data()) != 0) return failed("futimens", entry_.path);
    return {};
  }

 private:
  Result<Place> place_of(const std::string& path) {
    const size_t slash = path.rfind('/');
    const std::string parent = slash == std::string::npos ? "" : path.substr(0, slash);
    if (!parent_.valid() || parent != parent_path_) {
      parent_ = FLUYT_TRY_CONTEXT(sys::make_dirs_in(root_, cat(options_.folder, "/", parent), 0755),
                                  quote(path, 1024));
      parent_path_ = parent;
    }
    return Place{parent_, slash == std::string::npos ? path : path.substr(slash + 1)};
  }

  /// What is there goes, unless it is a folder or a mount: of another mount namespace than ours the
  /// kernel would take the mount away with the name.
  static Result<> clear(const Place& place, const std::string& path) {
    struct statx info{};
    if (statx(place.parent.raw(), place.name.c_str(), AT_SYMLINK_NOFOLLOW, 0, &info) != 0) {
      if (errno == ENOENT) return {};
      return failed("statx", path);
    }
    if ((info.stx_attributes & STATX_ATTR_MOUNT_ROOT) != 0)
      return wrong(path, "a mount is in its place");
    if (unlinkat(place.parent.raw(), place.name.c_str(), 0) == 0 || errno == ENOENT) return {};
    if (errno == EISDIR || errno == EPERM) return wrong(path, "a folder is in its place");
    return failed("unlinkat", path);
  }

  static std::array<timespec, 2> times_of(const TarEntry& entry) {
    const timespec time{.tv_sec = entry.mtime, .tv_nsec = static_cast<long>(entry.mtime_ns)};
    return {time, time};
  }

  Result<std::optional<std::pair<uint32_t, uint32_t>>> owner_of(const TarEntry& entry) const {
    if (options_.owner == UntarOptions::Owner::kNobodyAsked)
      return std::optional<std::pair<uint32_t, uint32_t>>();
    const bool kept = options_.owner == UntarOptions::Owner::kKept;
    const uint32_t uid = FLUYT_TRY(outside(options_.ids.uids, kept ? entry.uid : 0, entry.path));
    const uint32_t gid = FLUYT_TRY(outside(options_.ids.gids, kept ? entry.gid : 0, entry.path));
    return std::optional(std::pair(uid, gid));
  }

  mode_t mode_of(const TarEntry& entry) const {
    const mode_t mode = entry.mode & kPermissions;
    return options_.set_id == UntarOptions::SetId::kDropped ? mode & ~kSetIds : mode;
  }

  // Owner before mode, since a new owner clears bits.
  Result<> looks(sys::FdRef fd, const TarEntry& entry) const {
    const auto owner = FLUYT_TRY(owner_of(entry));
    if (owner && fchown(fd.raw(), owner->first, owner->second) != 0)
      return failed("fchown", entry.path);
    if (fchmod(fd.raw(), mode_of(entry)) != 0) return failed("fchmod", entry.path);
    return {};
  }

  /// Of a link, which cannot be opened.
  Result<> looks_of_name(const Place& place, const TarEntry& entry) const {
    const auto owner = FLUYT_TRY(owner_of(entry));
    const char* name = place.name.c_str();
    if (owner &&
        fchownat(place.parent.raw(), name, owner->first, owner->second, AT_SYMLINK_NOFOLLOW) != 0)
      return failed("fchownat", entry.path);
    const auto times = times_of(entry);
    if (utimensat(place.parent.raw(), name, times.data(), AT_SYMLINK_NOFOLLOW) != 0)
      return failed("utimensat", entry.path);
    return {};
  }

  Result<> directory(const Place& place, const TarEntry& entry) {
    const bool made = mkdirat(place.parent.raw(), place.name.c_str(), 0700) == 0;
    if (!made && errno != EEXIST) return failed("mkdirat", entry.path);
    const auto fd = sys::open(place.parent, place.name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW);
    if (!fd.ok() && !made) return wrong(entry.path, "something that is no folder is in its place");
    if (!fd.ok()) return fd.error();
    return made ? looks(*fd, entry) : Result<>();
  }

  Result<> file(const Place& place, const TarEntry& entry) {
    FLUYT_TRY(clear(place, entry.path));
    auto made = sys::open(place.parent, place.name, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW, 0600);
    if (!made.ok() && made.error().errno_value() == EOVERFLOW) {
      errno = EOVERFLOW;
      return failed("open", entry.path);
    }
    file_ = FLUYT_TRY(std::move(made));
    entry_ = entry;
    return {};
  }

  Result<> fifo(const Place& place, const TarEntry& entry) {
    FLUYT_TRY(clear(place, entry.path));
    if (mkfifoat(place.parent.raw(), place.name.c_str(), 0600) != 0)
      return failed("mkfifoat", entry.path);
    // Not opened, which waits for its other end, and not by a name that may be another's by now.
    const sys::Fd fd = FLUYT_TRY(sys::open(place.parent, place.name, O_PATH | O_NOFOLLOW));
    if (!S_ISFIFO(FLUYT_TRY(sys::stat_of(fd)).st_mode))
      return wrong(entry.path, "something else is in its place by now");
    const auto owner = FLUYT_TRY(owner_of(entry));
    if (owner && fchownat(fd.raw(), "", owner->first, owner->second, AT_EMPTY_PATH) != 0)
      return failed("fchownat", entry.path);
    const std::string by = cat("/proc/self/fd/", fd.raw());
    if (chmod(by.c_str(), mode_of(entry)) != 0) return failed("chmod", entry.path);
    const auto times = times_of(entry);
    if (utimensat(AT_FDCWD, by.c_str(), times.data(), 0) != 0)
      return failed("utimensat", entry.path);
    return {};
  }

  Result<> symlink(const Place& place, const TarEntry& entry) {
    FLUYT_TRY(clear(place, entry.path));
    if (symlinkat(entry.link.c_str(), place.parent.raw(), place.name.c_str()) != 0)
      return failed("symlinkat", entry.path);
    return looks_of_name(place, entry);
  }

  Result<> hard_link(const Place& place, const TarEntry& entry) {
    const auto target = clean_name(entry.link);
    if (!target) return wrong(entry.path, "a link to a name without \"..\" is expected");
    const sys::Fd to = FLUYT_TRY_CONTEXT(
        sys::open_in(root_, cat(options_.folder, "/", *target), O_PATH | O_NOFOLLOW),
        quote(entry.path, 1024));
    if (!S_ISREG(FLUYT_TRY(sys::stat_of(to)).st_mode))
      return wrong(entry.path, "a link to what is no file");
    FLUYT_TRY(clear(place, entry.path));
    const std::string by = cat("/proc/self/fd/", to.raw());
    if (linkat(AT_FDCWD, by.c_str(), place.parent.raw(), place.name.c_str(), AT_SYMLINK_FOLLOW) !=
        0)
      return failed("linkat", entry.path);
    return {};
  }

  const sys::Fd root_;
  const UntarOptions options_;
  sys::Fd parent_;  // of the last entry, and its path
  std::string parent_path_;
  sys::Fd file_;  // the one under way
  TarEntry entry_;
};

class TreeUntar final : public Untar {
 public:
  TreeUntar(sys::Fd root, UntarOptions options)
      : ids_(options.ids), sink_(std::move(root), std::move(options)), parser_(sink_) {}
  Result<> push(std::string_view bytes) override {
    const auto owner = FLUYT_TRY(own_new_files());
    return parser_.push(bytes);
  }
  Result<> finish() override {
    const auto owner = FLUYT_TRY(own_new_files());
    return parser_.finish();
  }

 private:
  /// As root inside, where ids are mapped.
  Result<std::shared_ptr<void>> own_new_files() const {
    if (ids_.empty()) return std::shared_ptr<void>();
    return sys::own_new_files(FLUYT_TRY(outside(ids_.uids, 0, "")),
                              FLUYT_TRY(outside(ids_.gids, 0, "")));
  }

  const sys::IdMaps ids_;
  TreeSink sink_;
  TarParser parser_;
};

}  // namespace

Result<std::unique_ptr<Untar>> Untar::create(sys::Fd root, UntarOptions options) {
  FLUYT_TRY(sys::open_in(root, options.folder, O_PATH | O_DIRECTORY));
  return std::unique_ptr<Untar>(std::make_unique<TreeUntar>(std::move(root), std::move(options)));
}

}  // namespace fluyt::image::archive
