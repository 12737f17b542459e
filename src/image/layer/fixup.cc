#include "image/layer/fixup.h"

#include <fcntl.h>
#include <linux/openat2.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <map>
#include <optional>
#include <set>
#include <utility>

#include "base/strings.h"
#include "image/layer/attributes.h"
#include "image/layer/name.h"
#include "image/layer/view.h"
#include "sys/file.h"

namespace fluyt::image {

namespace {

constexpr uint64_t kStatBlock = 512;  // of st_blocks, on every disk

// A directory of a tree of ours: nothing on the way to it is a symlink.
Result<sys::Fd> open_dir(sys::FdRef root, std::string_view path) {
  return sys::open_in(root, path, O_RDONLY | O_DIRECTORY | O_NOFOLLOW, 0, sys::Resolve::kBeneath,
                      RESOLVE_NO_SYMLINKS);
}

class Builder {
 public:
  Builder(const LayerInfo& info, sys::FdRef own, sys::FdRef into, LayerView view, DiskRoom& room)
      : info_(info),
        own_(own),
        into_(into),
        view_(std::move(view)),
        room_(room),
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
    return view_.open_dir(path);
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
    const auto target = FLUYT_TRY(view_.find(link.target, LayerView::LastLink::kKeep));
    if (!target) return Error(Code::kInvalidArgument, "no layer below has the target");
    if (S_ISDIR(target->info.st_mode)) {
      return Error(Code::kInvalidArgument, "the target is not a file");
    }
    const std::string folder(parent_of(link.path));
    FLUYT_TRY(directory(folder));
    const sys::Fd parent = FLUYT_TRY(open_dir(into_, folder));
    const std::string name(base_of(link.path));
    // The very file, where the layer that has it is a tree on this disk; no link leads into an
    // image.
    if (linkat(target->parent->raw(), target->name.c_str(), parent.raw(), name.c_str(), 0) == 0) {
      return {};
    }
    if (FLUYT_TRY(link_to_copy(*target, parent, name))) return {};
    if (S_ISREG(target->info.st_mode)) {
      FLUYT_TRY(room_.take(static_cast<uint64_t>(target->info.st_blocks) * kStatBlock));
    }
    FLUYT_TRY(copy_object(*target, parent, name));
    copies_[{target->info.st_dev, target->info.st_ino}] = link.path;
    if (!S_ISREG(target->info.st_mode)) return {};
    // A fix-up is made long after its layers were synced: nobody syncs it later.
    const sys::Fd copied = FLUYT_TRY(sys::open(parent, name, O_RDONLY | O_NOFOLLOW));
    if (fdatasync(copied.raw()) == 0) return {};
    return Error::from_errno(errno, cat("fdatasync(", quote(name), ")"));
  }

  // One file is copied once, however many links lead to it.
  Result<bool> link_to_copy(const LayerView::Found& target, const sys::Fd& parent,
                            const std::string& name) const {
    const auto copy = copies_.find({target.info.st_dev, target.info.st_ino});
    if (copy == copies_.end()) return false;
    const sys::Fd folder = FLUYT_TRY(open_dir(into_, parent_of(copy->second)));
    const std::string base(base_of(copy->second));
    if (linkat(folder.raw(), base.c_str(), parent.raw(), name.c_str(), 0) == 0) return true;
    if (errno == EMLINK) return false;
    return Error::from_errno(errno, cat("linkat(", quote(name), ")"));
  }

  const LayerInfo& info_;
  const sys::FdRef own_;
  const sys::FdRef into_;
  const LayerView view_;
  DiskRoom& room_;
  std::map<std::pair<dev_t, ino_t>, std::string> copies_;  // of files below, and where they are
  const std::set<std::string> implied_;
  std::set<std::string> made_;
};

}  // namespace

Result<bool> build_fixup(const LayerInfo& info, sys::FdRef own,
                         const std::vector<std::string>& below, sys::FdRef into, LookUps& look_ups,
                         DiskRoom& room) {
  return Builder(info, own, into, FLUYT_TRY(LayerView::open(below, &look_ups)), room).build();
}

}  // namespace fluyt::image
