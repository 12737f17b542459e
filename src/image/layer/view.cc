#include "image/layer/view.h"

#include <fcntl.h>
#include <sys/xattr.h>
#include <unistd.h>

#include <cerrno>
#include <deque>
#include <utility>

#include "base/strings.h"
#include "sys/file.h"

namespace fluyt::image {

namespace {

constexpr int kMaxHops = 40;  // what the kernel allows a path

bool is_whiteout(const struct stat& info) { return S_ISCHR(info.st_mode) && info.st_rdev == 0; }

bool is_opaque(const sys::Fd& directory) {
  char value = 0;
  return fgetxattr(directory.raw(), "trusted.overlay.opaque", &value, 1) == 1 && value == 'y';
}

}  // namespace

Result<LayerView> LayerView::open(const std::vector<std::string>& lower_dirs) {
  if (lower_dirs.empty()) return Error(Code::kInvalidArgument, "a view of no layers");
  auto root = std::make_shared<Merged>();
  for (const std::string& dir : lower_dirs) {
    root->parts.push_back(
        std::make_shared<const sys::Fd>(FLUYT_TRY(sys::open(dir, O_RDONLY | O_DIRECTORY))));
  }
  return LayerView(std::move(root));
}

Result<std::optional<LayerView::Entry>> LayerView::look_up(const Merged& in,
                                                           const std::string& name) {
  auto directory = std::make_shared<Merged>();
  Entry entry;
  for (const auto& part : in.parts) {
    struct stat info{};
    if (fstatat(part->raw(), name.c_str(), &info, AT_SYMLINK_NOFOLLOW) != 0) {
      if (errno == ENOENT) continue;
      return Error::from_errno(errno, cat("fstatat(", quote(name), ")"));
    }
    const bool is_first = directory->parts.empty();
    if (is_whiteout(info)) break;
    if (!S_ISDIR(info.st_mode)) {
      if (!is_first) break;  // hidden by the directory
      return std::optional(Entry{{part, name, info}, nullptr});
    }
    if (is_first) entry.found = {part, name, info};
    auto opened = std::make_shared<const sys::Fd>(
        FLUYT_TRY(sys::open(*part, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW)));
    const bool opaque = is_opaque(*opened);
    directory->parts.push_back(std::move(opened));
    if (opaque) break;
  }
  if (directory->parts.empty()) return std::optional<Entry>();
  entry.directory = std::move(directory);
  return std::optional(std::move(entry));
}

Result<std::optional<LayerView::Entry>> LayerView::resolve(std::string_view path,
                                                           LastLink last_link) const {
  const auto parts_of = [](std::string_view text) {
    std::deque<std::string> out;
    for (const std::string_view part : split(text, '/')) {
      if (!part.empty() && part != ".") out.emplace_back(part);
    }
    return out;
  };
  const auto as_entry = [&](std::shared_ptr<const Merged> directory) -> Result<Entry> {
    Entry entry{{nullptr, ".", FLUYT_TRY(sys::stat_of(*directory->parts.front()))}, nullptr};
    entry.directory = std::move(directory);
    return entry;
  };
  std::vector<std::shared_ptr<const Merged>> trail{root_};
  std::deque<std::string> left = parts_of(path);
  int hops = 0;
  while (!left.empty()) {
    const std::string name = std::move(left.front());
    left.pop_front();
    if (name == "..") {
      if (trail.size() > 1) trail.pop_back();
      continue;
    }
    std::optional<Entry> found = FLUYT_TRY(look_up(*trail.back(), name));
    if (!found) return found;
    if (S_ISLNK(found->found.info.st_mode) && (!left.empty() || last_link == LastLink::kFollow)) {
      if (++hops > kMaxHops) return std::optional<Entry>();
      const std::string target = FLUYT_TRY(sys::read_link(*found->found.parent, name));
      if (target.starts_with('/')) trail.resize(1);
      std::deque<std::string> ahead = parts_of(target);
      left.insert(left.begin(), ahead.begin(), ahead.end());
      continue;
    }
    if (left.empty()) return found;
    if (!found->directory) return std::optional<Entry>();
    trail.push_back(found->directory);
  }
  return std::optional(FLUYT_TRY(as_entry(trail.back())));
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
  return std::optional(FLUYT_TRY(sys::duplicate(*entry->directory->parts.front())));
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
