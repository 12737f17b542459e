#pragma once

#include <sys/stat.h>

#include <atomic>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "sys/fd.h"

namespace fluyt::image {

/// How often layers may be asked for a name, over all views that share it: layers that were made
/// for it have their product asked, of entries that take no room.
struct LookUps {
  uint64_t done = 0;
  uint64_t allowed = UINT64_MAX;
  const std::atomic<bool>* stop = nullptr;  // once set, the next one is kCancelled
};

/// Layers as one read-only tree, as overlayfs shows them (whiteouts, opaque directories), but read
/// in place: no mount is made and no capability needed. Symlinks lead where they would in a
/// container, never out of the tree. One directory is asked for in the lower layers when a name is
/// not in the upper ones, and the way to the last path is remembered: names in sorted order cost
/// about one look-up each. Used by one thread at a time.
class LayerView {
 public:
  /// `lower_dirs` topmost first, at least one. With `look_ups`, which outlives the view, one more
  /// than they allow is kResourceExhausted.
  static Result<LayerView> open(const std::vector<std::string>& lower_dirs,
                                LookUps* look_ups = nullptr);

  /// One name in the tree, and the directory of the layer that shows it.
  struct Found {
    std::shared_ptr<const sys::Fd> parent;  // null for a directory
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
  using FdPtr = std::shared_ptr<const sys::Fd>;
  class Layers;
  class Merged;
  using MergedPtr = std::shared_ptr<Merged>;
  /// A directory as its layers have it, topmost first. The lower ones are looked for when somebody
  /// asks for them: who finds a name in the topmost asks no other. Nothing of it is kept open, by
  /// its path in each layer it is found again: on that way there is no symlink.
  class Merged {
   public:
    explicit Merged(std::shared_ptr<Layers> layers);  // the root
    /// `name` in `above`, which has it in the layer `first` as its part before `next`.
    Merged(MergedPtr above, const std::string& name, size_t first, size_t next);
    const MergedPtr& above() const { return above_; }  // null: this is the root
    const std::shared_ptr<Layers>& layers() const { return layers_; }
    const std::string& path() const { return path_; }
    size_t depth() const { return depth_; }
    /// The layer that has the part; nothing: there are not so many.
    Result<std::optional<size_t>> part(size_t place);
    /// That part, open for reading; null: there are not so many.
    Result<FdPtr> open_part(size_t place);

   private:
    Result<> look_further();
    const std::shared_ptr<Layers> layers_;
    const MergedPtr above_;
    const std::string path_;
    const size_t depth_;
    std::vector<size_t> parts_;
    size_t next_ = 0;   // of the parts above: the next to be asked
    bool all_ = false;  // no layer below has more of it
  };
  struct Entry {
    Found found;
    MergedPtr directory;  // null: it is none
  };
  /// A name of the path that was asked for last, and where it led.
  struct Step {
    std::string name;
    MergedPtr directory;
    int hops = 0;  // symlinks up to here
  };
  explicit LayerView(MergedPtr root) : root_(std::move(root)) {}
  static Result<std::optional<Entry>> look_up(const MergedPtr& in, const std::string& name);
  static Result<Entry> entry_of(MergedPtr directory);
  Result<std::optional<Entry>> go(const MergedPtr& in, const std::string& name, LastLink link,
                                  int& hops) const;
  Result<std::optional<Entry>> resolve(std::string_view path, LastLink last_link) const;

  MergedPtr root_;
  mutable std::vector<Step> way_;
};

/// Makes `name` in `into` like what was found, which is no directory: data, owner, mode, attributes
/// and times. A socket is passed over.
Result<> copy_object(const LayerView::Found& from, sys::FdRef into, const std::string& name);

}  // namespace fluyt::image
