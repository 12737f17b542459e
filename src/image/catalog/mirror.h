#pragma once

#include <cstdint>
#include <map>
#include <set>
#include <string>
#include <vector>

#include "base/result.h"
#include "image/catalog/catalog.h"
#include "sys/fd.h"

namespace fluyt::image {

/// An image or a root as the catalogue had it after a commit, with all that is needed to have it
/// again: a small JSON file each, `images/<hex of id>.json` and `roots/<container id>.json`.
struct MirroredImage {
  ImageRow row;
  std::vector<std::string> names;
  std::vector<LayerRow> layers;  // those of row.layers that the catalogue knew
  bool operator==(const MirroredImage&) const = default;
};
struct MirroredRoot {
  RootRow row;
  std::vector<LayerRow> layers;
  bool operator==(const MirroredRoot&) const = default;
};

struct MirrorContent {
  std::map<std::string, MirroredImage> images;
  std::map<std::string, MirroredRoot> roots;
  int64_t generation = 0;               // the newest
  std::vector<std::string> unreadable;  // files that are no records, with the reason
};

/// The catalogue once more, in files that can be read when the database cannot. It is written after
/// each commit, so it may be one commit behind, never ahead of what was asked for; `generation`
/// counts commits, but for those of roots alone, and tells which of the two is older. Of one thread
/// at a time.
class Mirror {
 public:
  /// Opens or makes the folder; `is_new` tells which.
  static Result<Mirror> open(const std::string& folder);
  bool is_new() const { return is_new_; }

  Result<MirrorContent> read() const;

  Result<> put(const MirroredImage& image, int64_t generation) const;
  Result<> put(const MirroredRoot& root, int64_t generation) const;
  /// Absent is success.
  Result<> remove_image(const std::string& id) const;
  Result<> remove_root(const std::string& container_id) const;

 private:
  Mirror(sys::Fd root, bool is_new) : root_(std::move(root)), is_new_(is_new) {}
  sys::Fd root_;
  bool is_new_;
};

MirroredImage mirrored_image(const ImageRow& row, const CatalogState& state);
MirroredRoot mirrored_root(const RootRow& row, const CatalogState& state);
/// The ids of images and roots that a commit changes what is mirrored of. `before` is the state
/// that it meets.
struct Touched {
  std::set<std::string> images;
  std::set<std::string> roots;
};
Touched touched_by(const CatalogChange& change, const CatalogState& before);
/// All of it, for an empty catalogue.
CatalogChange change_from(const MirrorContent& content);

}  // namespace fluyt::image
