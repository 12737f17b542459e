#pragma once

#include <atomic>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/log.h"
#include "base/result.h"
#include "image/layer/reaper.h"
#include "image/layer/view.h"
#include "sys/dir_stack.h"
#include "sys/fd.h"
#include "sys/overlay.h"

namespace fluyt::image {

/// How a container's root comes to be.
enum class RootDriver {
  kOverlay,  // overlayfs over the layers
  kCopy,     // a copy of them, where overlayfs is not to be had or its disk cannot be written to
};
std::string_view driver_name(RootDriver driver);  // "overlay", "copy"
Result<RootDriver> parse_root_driver(std::string_view name);

struct RootOptions {
  enum class Access {
    kWritable,
    kReadOnly,  // an image volume: the layers alone
  } access = Access::kWritable;
  sys::IdMaps ids = {};  // in a user namespace: whom the image's files belong to there
};

/// The writable parts of container roots, `<root>/<container id>/{upper,work}`; of a copied one
/// `upper` alone, which then is the root; of a read-only one `empty`, below the last layer, for an
/// overlay wants two. Nothing is mounted here: a root is handed out as a value.
/// Thread-safe; the caller keeps two calls for one id apart.
class Roots {
 public:
  /// Opens or makes the folder `root` (0700), for kOverlay on a file system that overlayfs can
  /// write to. `driver` is for new roots; those that are there stay what they are.
  /// `logger`, which may be none and outlives it, is told of what cannot be removed: that keeps
  /// nobody from opening the folder.
  static Result<Roots> open(const std::string& root, RootDriver driver = RootDriver::kOverlay,
                            Logger* logger = nullptr);

  /// Of new roots from now on.
  void set_driver(RootDriver driver) { *driver_ = driver; }

  /// The root of container `id` over `lower_dirs` (topmost first, from LayerStore::resolve_chain).
  /// The upper directory gets owner, mode and attributes of the topmost layer's root. Existing
  /// already with the same id: the same plan again, its content kept. With ids the layers stay as
  /// they are and show shifted; what is written is owned by the shifted ids.
  Result<sys::OverlayMount> create(const std::string& id,
                                   const std::vector<std::string>& lower_dirs,
                                   const RootOptions& options = {}) const;
  /// Whether a root with ids can be had over directories here: one is mounted where nobody sees it.
  Result<> probe_ids() const;
  /// Removes it with all that was written; absent is success. The caller knows that nothing has it
  /// mounted. It is out of the way at once, and its disk is given back behind that.
  Result<> remove(const std::string& id) const;
  Result<std::vector<std::string>> list() const;
  /// Names in the folder of what remove() took and what is not gone yet.
  Result<std::vector<std::string>> list_removed() const;
  /// What the container wrote, by a walk on descriptors that follows no link and ends after
  /// `max_inodes`.
  Result<sys::TreeSize> usage(const std::string& id, uint64_t max_inodes = 5'000'000) const;

 private:
  Result<> fill(sys::FdRef folder, const std::vector<std::string>& lower_dirs,
                const RootOptions& options) const;
  Roots(std::string path, RootDriver driver, sys::Fd root, std::unique_ptr<Reaper> reaper)
      : path_(std::move(path)),
        driver_(std::make_unique<std::atomic<RootDriver>>(driver)),
        root_(std::move(root)),
        reaper_(std::move(reaper)) {}
  std::string path_;
  std::unique_ptr<std::atomic<RootDriver>> driver_;
  sys::Fd root_;
  std::unique_ptr<Reaper> reaper_;
};

}  // namespace fluyt::image
