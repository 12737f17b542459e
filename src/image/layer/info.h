#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "oci/digest.h"

namespace fluyt::image {

/// A hard link of a layer whose target is in a layer below (image-spec layer.md, "Hardlinks").
struct LowerLink {
  std::string path;    // relative to the root, clean, no symlink on the way
  std::string target;  // relative to the root, clean
  bool operator==(const LowerLink&) const = default;
};

/// How a layer lies on the disk.
enum class LayerForm {
  kDirectory,  // a tree of files
  kErofs,      // one file, an EROFS image that has the archive in it (erofs_image.h)
};
std::string_view form_name(LayerForm form);  // "directory", "erofs"
Result<LayerForm> parse_layer_form(std::string_view name);

/// What is known of one unpacked layer; kept beside its tree as `layer.json`.
struct LayerInfo {
  oci::Digest diff_id;          // of the uncompressed tar: the layer's name
  oci::Digest blob_digest;      // of the bytes as they came
  std::string media_type;       // as the manifest said
  std::string compression;      // as found: "gzip", "zstd" or "none"
  uint64_t blob_bytes = 0;      // as they came
  uint64_t unpacked_bytes = 0;  // of the tar
  uint64_t disk_bytes = 0;      // directories and file data, in whole 4 KiB blocks; or the image
  uint64_t inodes = 0;          // made on the disk
  uint64_t entries = 0;         // in the tar
  uint64_t skipped = 0;         // entries and attributes that the rules drop (README.md)
  LayerForm form = LayerForm::kDirectory;
  std::string metadata_digest;  // of an image: erofs::ImageSummary's; of a tree: its manifest's
  /// The layer hides everything below it.
  bool opaque_root = false;
  /// Directories that the tar does not list but needs; "" is the root. Their owner, mode and
  /// attributes belong to the layers below.
  std::vector<std::string> implied_dirs;
  std::vector<LowerLink> lower_links;
  /// Whether a chain of layers below may change what this layer looks like.
  bool needs_chain() const { return !implied_dirs.empty() || !lower_links.empty(); }
};

/// JSON as in `layer.json`, one object. Bytes of a name that are not plain UTF-8 text, and '%', are
/// written %XX.
std::string to_json(const LayerInfo& info);
Result<LayerInfo> parse_layer_info(std::string_view json);

}  // namespace fluyt::image
