#include "image/layer/staging.h"

#include <fcntl.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <optional>
#include <utility>

#include "base/id.h"
#include "base/strings.h"
#include "sys/file.h"

namespace fluyt::image {

namespace {

// The name there; nothing when there was nothing to move.
Result<std::optional<std::string>> rename_to_trash(sys::FdRef root, const std::string& path) {
  std::string name = make_id().substr(0, 16);
  const std::string trash = cat("trash/", name);
  if (renameat(root.raw(), path.c_str(), root.raw(), trash.c_str()) == 0)
    return std::optional(std::move(name));
  if (errno == ENOENT) return std::optional<std::string>();
  return Error::from_errno(errno, cat("renameat(", quote(path), ", ", quote(trash), ")"));
}

}  // namespace

Result<Staging> Staging::create(sys::FdRef root, Reaper* trash) {
  const std::string path = cat("staging/", make_id().substr(0, 16));
  if (mkdirat(root.raw(), path.c_str(), 0700) != 0) {
    return Error::from_errno(errno, cat("mkdirat(", quote(path), ")"));
  }
  Staging staging(root, path, trash);
  staging.folder_ = FLUYT_TRY(sys::open(root, path, O_PATH | O_DIRECTORY));
  if (mkdirat(staging.folder_.raw(), "fs", 0755) != 0)
    return Error::from_errno(errno, "mkdirat(\"fs\")");
  staging.tree_ = FLUYT_TRY(sys::open(staging.folder_, "fs", O_RDONLY | O_DIRECTORY));
  // Whatever umask, setgid parent or default ACL made of it.
  if (fchown(staging.tree_.raw(), 0, 0) != 0) return Error::from_errno(errno, "fchown(\"fs\")");
  if (fchmod(staging.tree_.raw(), 0755) != 0) return Error::from_errno(errno, "fchmod(\"fs\")");
  return staging;
}

Staging::Staging(Staging&& other) noexcept
    : root_(other.root_),
      path_(std::exchange(other.path_, {})),
      trash_(other.trash_),
      folder_(std::move(other.folder_)),
      tree_(std::move(other.tree_)) {}

Staging::~Staging() {
  if (path_.empty()) return;
  if (trash_ != nullptr) {
    auto moved = rename_to_trash(root_, path_);
    if (moved.ok()) {
      if (moved->has_value()) trash_->add(std::move(**moved));
      return;
    }
  }
  sys::remove_tree(root_, path_).ignore("staging is swept when the store is opened");
}

Result<bool> Staging::move_to(const std::string& path) {
  if (renameat2(root_.raw(), path_.c_str(), root_.raw(), path.c_str(), RENAME_NOREPLACE) == 0) {
    path_.clear();
    return true;
  }
  if (errno == EEXIST) return false;
  return Error::from_errno(errno, cat("renameat2(", quote(path_), ", ", quote(path), ")"));
}

Result<> discard(sys::FdRef root, const std::string& path, Logger* logger) {
  const auto name = FLUYT_TRY(rename_to_trash(root, path));
  if (!name.has_value()) return {};
  const sys::Fd trash = FLUYT_TRY(sys::open(root, "trash", O_PATH | O_DIRECTORY));
  Reaper::sweep(trash, {*name}, "trash", logger);
  return {};
}

}  // namespace fluyt::image
