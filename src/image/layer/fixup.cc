#include "image/layer/fixup.h"

#include <fcntl.h>
#include <linux/openat2.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <optional>
#include <set>

#include "base/strings.h"
#include "image/layer/attributes.h"
#include "image/layer/name.h"
#include "image/layer/view.h"
#include "sys/file.h"

namespace fluyt::image {

namespace {

constexpr size_t kCopyBytes = 256UL << 10U;

bool is_absent(const Error& error) {
  const int number = error.errno_value();
  return number == ENOENT || number == ENOTDIR || number == ELOOP;
}

// A directory of a tree of ours: nothing on the way to it is a symlink.
Result<sys::Fd> open_dir(sys::FdRef root, std::string_view path) {
  return sys::open_in(root, path, O_RDONLY | O_DIRECTORY | O_NOFOLLOW, 0, sys::Resolve::kBeneath,
                      RESOLVE_NO_SYMLINKS);
}

class Builder {
 public:
  Builder(const LayerInfo& info, sys::FdRef own, const std::vector<std::string>& below,
          sys::FdRef into, LayerView view)
      : info_(info),
        own_(own),
        below_(below),
        into_(into),
        view_(std::move(view)),
        implied_(info.implied_dirs.begin(), info.implied_dirs.end()) {}

  Result<bool> build() {
    for (const std::string& path : info_.implied_dirs) {
      const std::optional<Attributes> wanted = FLUYT_TRY(below(path));
      if (wanted && *wanted != FLUYT_TRY(own(path))) FLUYT_TRY(directory(path));
    }
    for (const LowerLink& link : info_.lower_links) {
      FLUYT_TRY_CONTEXT(add_link(link),
                        cat("hard link ", quote(link.path), " to ", quote(link.target)));
    }
    // Times last, when nothing is made in the directories any more.
    for (const std::string& path : made_) {
      std::optional<sys::Fd> from;
      if (implied_.contains(path)) from = FLUYT_TRY(open_below(path));
      if (!from) from = FLUYT_TRY(open_dir(own_, path));
      const sys::Fd to = FLUYT_TRY(open_dir(into_, path));
      FLUYT_TRY(copy_times(*from, to, path));
    }
    return !made_.empty();
  }

 private:
  // Symlinks in the layers below are followed within them: where /lib leads to usr/lib there, an
  // implied lib here is a real directory that hides the link, and it should at least look like its
  // target.
  Result<std::optional<sys::Fd>> open_below(const std::string& path) const {
    auto opened = sys::open_in(view_.root(), path, O_RDONLY | O_DIRECTORY);
    if (!opened.ok() && is_absent(opened.error())) return std::optional<sys::Fd>();
    return std::optional(FLUYT_TRY(std::move(opened)));
  }

  Result<std::optional<Attributes>> below(const std::string& path) const {
    const auto fd = FLUYT_TRY(open_below(path));
    if (!fd) return std::optional<Attributes>();
    return std::optional(FLUYT_TRY(read_attributes(*fd, path)));
  }

  Result<Attributes> own(const std::string& path) const {
    const sys::Fd fd = FLUYT_TRY(open_dir(own_, path));
    return read_attributes(fd, path);
  }

  // Makes `path` with what it is to look like, and those above it first.
  Result<> directory(const std::string& path) {
    if (made_.contains(path)) return {};
    if (!path.empty()) {
      FLUYT_TRY(directory(std::string(parent_of(path))));
      const sys::Fd parent = FLUYT_TRY(open_dir(into_, parent_of(path)));
      if (mkdirat(parent.raw(), std::string(base_of(path)).c_str(), 0700) != 0) {
        return Error::from_errno(errno, cat("mkdirat(", quote(path), ")"));
      }
    }
    std::optional<Attributes> look;
    if (implied_.contains(path)) look = FLUYT_TRY(below(path));
    if (!look) look = FLUYT_TRY(own(path));
    const sys::Fd made = FLUYT_TRY(open_dir(into_, path));
    FLUYT_TRY(write_attributes(made, *look, path));
    made_.insert(path);
    return {};
  }

  Result<> add_link(const LowerLink& link) {
    // A link's target is a name, not where a symlink of that name leads.
    auto target = sys::open_in(view_.root(), link.target, O_PATH | O_NOFOLLOW);
    if (!target.ok() && is_absent(target.error())) {
      return Error(Code::kInvalidArgument, "no layer below has the target");
    }
    const sys::Fd found = FLUYT_TRY(std::move(target));
    const struct stat info = FLUYT_TRY(sys::stat_of(found));
    if (S_ISDIR(info.st_mode) || (S_ISCHR(info.st_mode) && info.st_rdev == 0)) {
      return Error(Code::kInvalidArgument, "the target is not a file");
    }
    const std::string folder(parent_of(link.path));
    FLUYT_TRY(directory(folder));
    const sys::Fd parent = FLUYT_TRY(open_dir(into_, folder));
    const std::string name(base_of(link.path));
    if (FLUYT_TRY(link_real_file(link.target, info, parent, name))) return {};
    return copy(link.target, info, parent, name);
  }

  // The file itself, found in the layer that the stack shows it from: overlayfs gives a file of a
  // lower layer on one file system that file's own inode number.
  Result<bool> link_real_file(const std::string& target, const struct stat& shown,
                              sys::FdRef parent, const std::string& name) const {
    const std::string base(base_of(target));
    for (const std::string& layer : below_) {
      const sys::Fd root = FLUYT_TRY(sys::open(layer, O_PATH | O_DIRECTORY));
      auto folder = open_dir(root, parent_of(target));
      if (!folder.ok()) continue;  // not in this layer, or by way of a symlink: then it is copied
      const auto info = FLUYT_TRY(sys::find_stat(*folder, base));
      const bool same = info && info->st_ino == shown.st_ino && info->st_mode == shown.st_mode &&
                        info->st_size == shown.st_size;
      if (same && linkat(folder->raw(), base.c_str(), parent.raw(), name.c_str(), 0) == 0)
        return true;
    }
    return false;
  }

  Result<> copy(const std::string& target, const struct stat& info, sys::FdRef parent,
                const std::string& name) const {
    if (!S_ISREG(info.st_mode)) {
      return Error(Code::kUnimplemented,
                   "the target is neither a regular file nor within reach of a link");
    }
    const sys::Fd from = FLUYT_TRY(sys::open_in(view_.root(), target, O_RDONLY | O_NOFOLLOW));
    const sys::Fd to =
        FLUYT_TRY(sys::open(parent, name, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW, 0600));
    std::vector<char> buffer(kCopyBytes);
    while (const size_t got = FLUYT_TRY(sys::read_some(from, buffer))) {
      FLUYT_TRY(sys::write_all(to, {buffer.data(), got}));
    }
    FLUYT_TRY(write_attributes(to, FLUYT_TRY(read_attributes(from, target)), name));
    FLUYT_TRY(copy_times(from, to, name));
    // A fix-up is made long after its layers were synced: nobody syncs it later.
    if (fdatasync(to.raw()) != 0)
      return Error::from_errno(errno, cat("fdatasync(", quote(name), ")"));
    return {};
  }

  const LayerInfo& info_;
  const sys::FdRef own_;
  const std::vector<std::string>& below_;
  const sys::FdRef into_;
  const LayerView view_;
  const std::set<std::string> implied_;
  std::set<std::string> made_;
};

}  // namespace

Result<bool> build_fixup(const LayerInfo& info, sys::FdRef own,
                         const std::vector<std::string>& below, sys::FdRef into) {
  return Builder(info, own, below, into, FLUYT_TRY(LayerView::open(below))).build();
}

}  // namespace fluyt::image
