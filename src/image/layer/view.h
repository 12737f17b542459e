#pragma once

#include <sys/stat.h>

#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "sys/fd.h"

namespace fluyt::image {

/// Layers as one read-only tree, as overlayfs shows them (whiteouts, opaque directories), but read
/// in place: no mount is made and no capability needed. Symlinks lead where they would in a
/// container, never out of the tree.
class LayerView {
 public:
  /// `lower_dirs` topmost first, at least one.
  static Result<LayerView> open(const std::vector<std::string>& lower_dirs);

  /// One name in the tree, and the directory of the layer that shows it.
  struct Found {
    std::shared_ptr<const sys::Fd> parent;  // null for the root
    std::string name;
    struct stat info;
  };
  enum class LastLink { kFollow, kKeep };
  /// Nothing when it is not there. More than 40 symlinks on the way count as that.
  Result<std::optional<Found>> find(std::string_view path, LastLink last_link) const;
  /// A directory of the tree, open for reading in the topmost layer that has it; symlinks are
  /// followed; nothing when there is no such directory.
  Result<std::optional<sys::Fd>> open_dir(std::string_view path) const;
  /// The content of a regular file; nothing when it is not there or is not a regular file; more
  /// than `limit` bytes is kResourceExhausted.
  Result<std::optional<std::string>> read_file(std::string_view path, size_t limit) const;

  /// Copies the whole tree into the directory `into`, whose own looks become the root's. Data are
  /// shared where the disk can (FICLONE). For disks and hosts that have no overlayfs.
  Result<> copy_to(sys::FdRef into) const;

 private:
  friend class TreeCopy;
  /// A directory as its layers have it, topmost first.
  struct Merged {
    std::vector<std::shared_ptr<const sys::Fd>> parts;
  };
  struct Entry {
    Found found;
    std::shared_ptr<const Merged> directory;  // null: it is none
  };
  explicit LayerView(std::shared_ptr<const Merged> root) : root_(std::move(root)) {}
  static Result<std::optional<Entry>> look_up(const Merged& in, const std::string& name);
  Result<std::optional<Entry>> resolve(std::string_view path, LastLink last_link) const;

  std::shared_ptr<const Merged> root_;
};

/// Makes `name` in `into` like what was found, which is no directory: data, owner, mode, attributes
/// and times. A socket is passed over.
Result<> copy_object(const LayerView::Found& from, sys::FdRef into, const std::string& name);

}  // namespace fluyt::image
