#include "image/rootfs/roots.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <memory>
#include <utility>

#include "base/id.h"
#include "base/strings.h"
#include "image/layer/attributes.h"
#include "sys/file.h"
#include "sys/mount.h"

namespace fluyt::image {

namespace {

// No container id begins with '@'.
constexpr std::string_view kUnfinished = "@";
constexpr std::string_view kRemoved = "@removed-";
constexpr size_t kMaxIdBytes = 255;

Error failed(std::string_view call, std::string_view name) {
  const int error = errno;
  return Error::from_errno(error, cat(call, "(", quote(name), ")"));
}

std::string removed_name() { return cat(kRemoved, make_id().substr(0, 16)); }

Result<std::vector<std::string>> list_removed_in(sys::FdRef root) {
  std::vector<std::string> names = FLUYT_TRY(sys::list_dir(root));
  std::erase_if(names, [](const std::string& name) { return !name.starts_with(kRemoved); });
  return names;
}

Result<> check_id(const std::string& id) {
  if (is_valid_container_id(id) && id.size() <= kMaxIdBytes) return {};
  return Error(Code::kInvalidArgument,
               cat("container id ", quote(id), ": not one that a root may have"));
}

// The layer's root, seen through its shifted ids where there are any: owner and ACLs come shifted.
Result<sys::Fd> open_top(const std::string& layer, const sys::IdMaps& ids) {
  if (ids.empty()) return sys::open(layer, O_RDONLY | O_DIRECTORY);
  return sys::open(FLUYT_TRY(sys::clone_mapped(layer, ids)), ".", O_RDONLY | O_DIRECTORY);
}

// overlayfs shows the upper directory's own owner, mode and attributes as those of the merged root.
Result<> make_upper(sys::FdRef folder, const std::string& top_layer, const sys::IdMaps& ids) {
  FLUYT_TRY(sys::make_dirs_in(folder, "upper", 0755));
  const sys::Fd upper = FLUYT_TRY(sys::open(folder, "upper", O_RDONLY | O_DIRECTORY));
  const sys::Fd top = FLUYT_TRY(open_top(top_layer, ids));
  FLUYT_TRY(write_attributes(upper, FLUYT_TRY(read_attributes(top, top_layer)), "upper"));
  return copy_times(top, upper, "upper");
}

}  // namespace

std::string_view driver_name(RootDriver driver) {
  return driver == RootDriver::kCopy ? "copy" : "overlay";
}

Result<RootDriver> parse_root_driver(std::string_view name) {
  for (const RootDriver driver : {RootDriver::kOverlay, RootDriver::kCopy}) {
    if (driver_name(driver) == name) return driver;
  }
  return Error(Code::kInvalidArgument,
               cat("root driver ", quote(name), ": expected \"overlay\" or \"copy\""));
}

Result<Roots> Roots::open(const std::string& root, RootDriver driver, Logger* logger) {
  FLUYT_TRY(sys::make_dirs(root, 0700));
  sys::Fd fd = FLUYT_TRY(sys::open(root, O_PATH | O_DIRECTORY));
  for (const std::string& name : FLUYT_TRY(sys::list_dir(fd))) {
    if (!name.starts_with(kUnfinished) || name.starts_with(kRemoved)) continue;
    // Was being made when the process died.
    if (renameat(fd.raw(), name.c_str(), fd.raw(), removed_name().c_str()) != 0)
      return failed("renameat", name);
  }
  Reaper::sweep(fd, FLUYT_TRY(list_removed_in(fd)), "roots", logger);
  auto reaper = std::make_unique<Reaper>(FLUYT_TRY(sys::duplicate(fd)), "roots", logger);
  return Roots(root, driver, std::move(fd), std::move(reaper));
}

Result<> Roots::fill(sys::FdRef folder, const std::vector<std::string>& lower_dirs,
                     const RootOptions& options) const {
  if (*driver_ == RootDriver::kCopy) {
    FLUYT_TRY(sys::make_dirs_in(folder, "upper", 0755));
    const sys::Fd upper = FLUYT_TRY(sys::open(folder, "upper", O_RDONLY | O_DIRECTORY));
    return FLUYT_TRY(LayerView::open(lower_dirs)).copy_to(upper);
  }
  if (options.access == RootOptions::Access::kReadOnly) {
    FLUYT_TRY(sys::make_dirs_in(folder, "empty", 0755));
    return {};
  }
  FLUYT_TRY(sys::make_dirs_in(folder, "work", 0700));
  return make_upper(folder, lower_dirs.front(), options.ids);
}

Result<sys::OverlayMount> Roots::create(const std::string& id,
                                        const std::vector<std::string>& lower_dirs,
                                        const RootOptions& options) const {
  FLUYT_TRY(check_id(id));
  if (lower_dirs.empty()) return Error(Code::kInvalidArgument, "a root over no layers");
  // Made under another name first: what has its name is whole.
  const std::string unfinished = cat(kUnfinished, make_id().substr(0, 16));
  const auto make = [&]() -> Result<> {
    const sys::Fd made = FLUYT_TRY(sys::make_dirs_in(root_, unfinished, 0700));
    FLUYT_TRY(fill(made, lower_dirs, options));
    if (renameat(root_.raw(), unfinished.c_str(), root_.raw(), id.c_str()) == 0) return {};
    return failed("renameat", id);
  };
  if (!FLUYT_TRY(sys::find_stat(root_, id))) {
    auto made = make();
    if (!made.ok()) {
      sys::remove_tree(root_, unfinished).ignore("the next open() sweeps it");
      return std::move(made).error().add_context(cat("root of container ", id));
    }
  }
  // What it is made of tells what it is: it stays that, whatever the driver is by now.
  const std::string folder = cat(path_, "/", id);
  if (FLUYT_TRY(sys::find_stat(root_, id + "/work")))
    return sys::OverlayMount{lower_dirs, folder + "/upper", folder + "/work", options.ids};
  if (FLUYT_TRY(sys::find_stat(root_, id + "/upper")))
    return sys::OverlayMount{{}, folder + "/upper", {}, options.ids};
  std::vector<std::string> dirs = lower_dirs;
  dirs.push_back(folder + "/empty");
  return sys::OverlayMount{std::move(dirs), {}, {}, options.ids};
}

Result<> Roots::probe_ids() const {
  constexpr uint32_t kFirst = 1U << 20U;
  const std::vector<sys::IdRange> some = {{.inside = 0, .outside = kFirst, .count = 1}};
  const std::string layer = cat(kUnfinished, make_id().substr(0, 16));
  const std::string id = cat("probe-", make_id().substr(0, 16));
  auto tried = [&]() -> Result<> {
    FLUYT_TRY(sys::make_dirs_in(root_, layer, 0755));
    const sys::OverlayMount root =
        FLUYT_TRY(create(id, {cat(path_, "/", layer)}, {.ids = {some, some}}));
    const sys::Fd mount = FLUYT_TRY(sys::make_overlay(root));
    const struct stat info = FLUYT_TRY(sys::stat_of(mount));
    if (info.st_uid == kFirst && info.st_gid == kFirst) return {};
    return Error(Code::kFailedPrecondition,
                 cat("a root with mapped ids: its owner shows as ", info.st_uid, ":", info.st_gid));
  }();
  sys::remove_tree(root_, layer).ignore("the next open() sweeps it");
  FLUYT_TRY(remove(id));
  return tried;
}

Result<> Roots::remove(const std::string& id) const {
  FLUYT_TRY(check_id(id));
  const std::string gone = removed_name();
  if (renameat(root_.raw(), id.c_str(), root_.raw(), gone.c_str()) != 0) {
    if (errno == ENOENT) return {};
    return failed("renameat", id);
  }
  reaper_->add(gone);
  return {};
}

Result<std::vector<std::string>> Roots::list() const {
  std::vector<std::string> names = FLUYT_TRY(sys::list_dir(root_));
  std::erase_if(names, [](const std::string& name) { return name.starts_with(kUnfinished); });
  return names;
}

Result<std::vector<std::string>> Roots::list_removed() const { return list_removed_in(root_); }

Result<sys::TreeSize> Roots::usage(const std::string& id, uint64_t max_inodes) const {
  FLUYT_TRY(check_id(id));
  const sys::Fd folder = FLUYT_TRY_CONTEXT(sys::open(root_, id, O_PATH | O_DIRECTORY | O_NOFOLLOW),
                                           cat("root of container ", id));
  return FLUYT_TRY_CONTEXT(sys::tree_size(folder, "upper", max_inodes),
                           cat("root of container ", id));
}

}  // namespace fluyt::image
