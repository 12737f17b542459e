#include "image/layer/view.h"

#include <fcntl.h>
#include <linux/openat2.h>
#include <sys/xattr.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <numeric>
#include <utility>

#include "base/strings.h"
#include "image/layer/name.h"
#include "sys/file.h"

namespace fluyt::image {

namespace {

constexpr int kMaxHops = 40;          // what the kernel allows a path
constexpr size_t kNamesALookUp = 16;  // that the kernel goes through in about the same time

bool is_whiteout(const struct stat& info) { return S_ISCHR(info.st_mode) && info.st_rdev == 0; }

bool is_opaque(const sys::Fd& directory) {
  char value = 0;
  return fgetxattr(directory.raw(), "trusted.overlay.opaque", &value, 1) == 1 && value == 'y';
}

std::vector<std::string> parts_of(std::string_view path) {
  std::vector<std::string> out;
  for (const std::string_view part : split(path, '/')) {
    if (!part.empty() && part != ".") out.emplace_back(part);
  }
  return out;
}

}  // namespace

/// What all directories of a view have in common.
class LayerView::Layers {
 public:
  Layers(std::vector<sys::Fd> roots, LookUps* look_ups)
      : roots_(std::move(roots)), look_ups_(look_ups) {}
  size_t count() const { return roots_.size(); }

  /// What the layer has at `path`; nothing when it has nothing. The directories above are there.
  Result<std::optional<struct stat>> ask(size_t layer, const std::string& path, size_t depth) {
    FLUYT_TRY(charge(1 + depth / kNamesALookUp));
    struct stat info{};
    if (fstatat(roots_[layer].raw(), path.c_str(), &info, AT_SYMLINK_NOFOLLOW) == 0)
      return std::optional(info);
    // No layer has a path that is longer than the kernel takes.
    if (errno == ENOENT || errno == ENAMETOOLONG) return std::optional<struct stat>();
    return Error::from_errno(errno, cat("fstatat(", quote(path), ")"));
  }

  // The one that was opened last is still there: files come one directory after the other.
  Result<FdPtr> open(size_t layer, const std::string& path) {
    if (opened_ && opened_layer_ == layer && opened_path_ == path) return opened_;
    opened_ = std::make_shared<const sys::Fd>(
        FLUYT_TRY(sys::open_in(roots_[layer], path.empty() ? "." : path, O_RDONLY | O_DIRECTORY, 0,
                               sys::Resolve::kBeneath, RESOLVE_NO_SYMLINKS)));
    opened_layer_ = layer;
    opened_path_ = path;
    return opened_;
  }

 private:
  Result<> charge(uint64_t look_ups) {
    if (look_ups_ == nullptr) return {};
    if (look_ups_->stop != nullptr && *look_ups_->stop)
      return Error(Code::kCancelled, "cancelled by the caller");
    look_ups_->done += look_ups;
    if (look_ups_->done <= look_ups_->allowed) return {};
    return Error(Code::kResourceExhausted,
                 cat("its directories and links take more than the ", look_ups_->allowed,
                     " look-ups in the layers below that layers of so many entries may cost"));
  }

  const std::vector<sys::Fd> roots_;
  LookUps* const look_ups_;
  FdPtr opened_;
  size_t opened_layer_ = 0;
  std::string opened_path_;
};

LayerView::Merged::Merged(std::shared_ptr<Layers> layers)
    : layers_(std::move(layers)), depth_(0), parts_(layers_->count()), all_(true) {
  std::iota(parts_.begin(), parts_.end(), size_t{0});
}

LayerView::Merged::Merged(MergedPtr above, const std::string& name, size_t first, size_t next)
    : layers_(above->layers_),
      above_(std::move(above)),
      path_(join_path(above_->path_, name)),
      depth_(above_->depth_ + 1),
      parts_{first},
      next_(next) {}

Result<std::optional<size_t>> LayerView::Merged::part(size_t place) {
  while (parts_.size() <= place && !all_) FLUYT_TRY(look_further());
  return place < parts_.size() ? std::optional(parts_[place]) : std::nullopt;
}

Result<LayerView::FdPtr> LayerView::Merged::open_part(size_t place) {
  const auto layer = FLUYT_TRY(part(place));
  return layer ? layers_->open(*layer, path_) : Result<FdPtr>(nullptr);
}

// An opaque one hides what is below it, and is asked for that when somebody wants to go there.
Result<> LayerView::Merged::look_further() {
  all_ = is_opaque(*FLUYT_TRY(layers_->open(parts_.back(), path_)));
  while (!all_) {
    const auto layer = FLUYT_TRY(above_->part(next_++));
    const auto info = layer ? FLUYT_TRY(layers_->ask(*layer, path_, depth_)) : std::nullopt;
    if (layer && !info) continue;
    all_ = !layer || !S_ISDIR(info->st_mode);
    if (all_) return {};
    parts_.push_back(*layer);
    return {};
  }
  return {};
}

Result<LayerView> LayerView::open(const std::vector<std::string>& lower_dirs, LookUps* look_ups) {
  if (lower_dirs.empty()) return Error(Code::kInvalidArgument, "a view of no layers");
  std::vector<sys::Fd> roots;
  for (const std::string& dir : lower_dirs) {
    roots.push_back(FLUYT_TRY(sys::open(dir, O_RDONLY | O_DIRECTORY)));
  }
  return LayerView(std::make_shared<Merged>(std::make_shared<Layers>(std::move(roots), look_ups)));
}

Result<std::optional<LayerView::Entry>> LayerView::look_up(const MergedPtr& in,
                                                           const std::string& name) {
  const std::string path = join_path(in->path(), name);
  for (size_t place = 0;; ++place) {
    const auto layer = FLUYT_TRY(in->part(place));
    if (!layer) return std::optional<Entry>();
    const auto info = FLUYT_TRY(in->layers()->ask(*layer, path, in->depth() + 1));
    if (!info) continue;
    if (is_whiteout(*info)) return std::optional<Entry>();
    Entry entry{{nullptr, name, *info}, nullptr};
    if (S_ISDIR(info->st_mode)) {
      entry.directory = std::make_shared<Merged>(in, name, *layer, place + 1);
    } else {
      entry.found.parent = FLUYT_TRY(in->layers()->open(*layer, in->path()));
    }
    return std::optional(std::move(entry));
  }
}

Result<LayerView::Entry> LayerView::entry_of(MergedPtr directory) {
  const FdPtr first = FLUYT_TRY(directory->open_part(0));
  Entry entry{{nullptr, ".", FLUYT_TRY(sys::stat_of(*first))}, nullptr};
  entry.directory = std::move(directory);
  return entry;
}

// One name further. `hops` counts the symlinks; one too many leads nowhere.
Result<std::optional<LayerView::Entry>> LayerView::go(const MergedPtr& in, const std::string& name,
                                                      LastLink link, int& hops) const {
  if (name == "..") return std::optional(FLUYT_TRY(entry_of(in->above() ? in->above() : in)));
  std::optional<Entry> found = FLUYT_TRY(look_up(in, name));
  if (!found || link == LastLink::kKeep || !S_ISLNK(found->found.info.st_mode)) return found;
  if (++hops > kMaxHops) return std::optional<Entry>();
  const std::string target = FLUYT_TRY(sys::read_link(*found->found.parent, name));
  std::optional<Entry> at = FLUYT_TRY(entry_of(target.starts_with('/') ? root_ : in));
  for (const std::string& part : parts_of(target)) {
    if (!at || !at->directory) return std::optional<Entry>();
    at = FLUYT_TRY(go(MergedPtr(at->directory), part, LastLink::kFollow, hops));
  }
  return at;
}

Result<std::optional<LayerView::Entry>> LayerView::resolve(std::string_view path,
                                                           LastLink last_link) const {
  const std::vector<std::string> parts = parts_of(path);
  size_t done = 0;
  // The last name of the path is not followed by everybody.
  const size_t reusable =
      last_link == LastLink::kFollow || parts.empty() ? parts.size() : parts.size() - 1;
  while (done < std::min(way_.size(), reusable) && way_[done].name == parts[done]) ++done;
  int hops = done == 0 ? 0 : way_[done - 1].hops;
  MergedPtr at = done == 0 ? root_ : way_[done - 1].directory;
  if (done < parts.size()) way_.resize(done);
  for (; done < parts.size(); ++done) {
    const bool is_last = done + 1 == parts.size();
    std::optional<Entry> found =
        FLUYT_TRY(go(at, parts[done], is_last ? last_link : LastLink::kFollow, hops));
    if (!found || (is_last && !found->directory)) return found;
    if (!found->directory) return std::optional<Entry>();
    at = found->directory;
    way_.push_back({parts[done], at, hops});
    if (is_last) return found;
  }
  return std::optional(FLUYT_TRY(entry_of(std::move(at))));
}

Result<std::optional<LayerView::Found>> LayerView::find(std::string_view path,
                                                        LastLink last_link) const {
  auto entry = FLUYT_TRY(resolve(path, last_link));
  if (!entry) return std::optional<Found>();
  return std::optional(std::move(entry->found));
}

Result<std::optional<sys::Fd>> LayerView::open_dir(std::string_view path) const {
  const auto entry = FLUYT_TRY(resolve(path, LastLink::kFollow));
  if (!entry || !entry->directory) return std::optional<sys::Fd>();
  return std::optional(FLUYT_TRY(sys::duplicate(*FLUYT_TRY(entry->directory->open_part(0)))));
}

Result<std::optional<std::string>> LayerView::read_file(std::string_view path, size_t limit) const {
  const auto found = FLUYT_TRY(find(path, LastLink::kFollow));
  // Looked at before it is opened: opening a fifo would wait, a device could do anything.
  if (!found || !S_ISREG(found->info.st_mode)) return std::optional<std::string>();
  const sys::Fd file = FLUYT_TRY(
      sys::open(*found->parent, found->name, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_NOCTTY));
  if (!S_ISREG(FLUYT_TRY(sys::stat_of(file)).st_mode)) return std::optional<std::string>();
  return std::optional(FLUYT_TRY_CONTEXT(sys::read_all(file, limit), quote(path)));
}

}  // namespace fluyt::image
