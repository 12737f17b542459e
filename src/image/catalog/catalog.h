#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "base/guarded.h"
#include "base/log.h"
#include "base/result.h"
#include "oci/digest.h"
#include "sys/disk_reserve.h"

namespace fluyt::image {

class Database;
class Mirror;
struct MirrorContent;
struct Touched;

/// An unpacked layer in the layer store, and whether it would outlive a power cut.
struct LayerRow {
  oci::Digest diff_id;
  uint64_t disk_bytes = 0;
  uint64_t inodes = 0;
  bool durable = false;
  std::string boot_id;    // of its writing: while not durable it is whole only in that boot
  uint64_t mount_id = 0;  // and that mount (STATX_MNT_ID_UNIQUE)
  bool operator==(const LayerRow&) const = default;
};

struct ImageLayer {
  oci::Digest diff_id;
  oci::Digest blob_digest;
  uint64_t blob_bytes = 0;
  bool operator==(const ImageLayer&) const = default;
};

/// A blob that is kept: a document of an image, or a layer as it came.
struct BlobRow {
  oci::Digest digest;
  uint64_t bytes = 0;
  bool operator==(const BlobRow&) const = default;
};

struct ImageRow {
  std::string id;  // the config's digest
  oci::Digest manifest_digest;
  uint64_t size = 0;               // bytes: layers as they came, and config
  std::vector<ImageLayer> layers;  // lowest first
  std::vector<oci::Digest> blobs;  // documents kept for it: config, manifest, index
  bool pinned = false;
  int64_t added_ns = 0;
  bool operator==(const ImageRow&) const = default;
};

/// A container's writable root and the layers it stands on: they stay while it is there, whatever
/// becomes of the image.
struct RootRow {
  std::string container_id;
  std::string image_id;
  std::vector<oci::Digest> layers;  // lowest first
  bool operator==(const RootRow&) const = default;
};

/// That an image was found to prove what a name demanded of it: policy::Rules::digest says what
/// that was. It goes with the image.
struct ApprovalRow {
  std::string image_id;
  std::string name;    // that was asked for, whole: oci::Reference::text()
  oci::Digest target;  // what the name pointed at: the image's manifest, or an index of it
  std::string rules;
  auto operator<=>(const ApprovalRow&) const = default;
};

/// Everything the catalog knows.
struct CatalogState {
  std::map<std::string, ImageRow> images;    // by id
  std::map<std::string, std::string> names;  // repo:tag and repo@digest to image id
  std::map<oci::Digest, LayerRow> layers;    // by diff id
  std::map<oci::Digest, BlobRow> blobs;      // by digest
  std::map<std::string, RootRow> roots;      // by container id
  std::set<ApprovalRow> approvals;
};

/// What one commit does, in this order. Dropping what is not there is no error.
struct CatalogChange {
  std::vector<std::string> drop_names;
  std::vector<std::string> drop_images;  // with all their names
  std::vector<std::string> drop_roots;
  std::vector<oci::Digest> drop_layers;
  std::vector<oci::Digest> drop_blobs;
  std::vector<ApprovalRow> drop_approvals;
  std::vector<BlobRow> put_blobs;
  std::vector<LayerRow> put_layers;
  std::vector<oci::Digest> durable_layers;
  std::vector<ImageRow> put_images;
  std::vector<std::pair<std::string, std::string>> put_names;  // name, image id
  std::vector<RootRow> put_roots;
  std::vector<ApprovalRow> put_approvals;
  bool empty() const;
  /// Of roots and nothing else: a power cut ends every container, so nobody waits for the disk.
  bool only_roots() const;
  bool drops() const;
};

/// The one truth about images, names, layers, blobs and roots: a SQLite file that is written
/// through, and a copy in memory that is read. A commit is durable before it shows, but for one of
/// roots alone: that is as durable as the next of anything else. Thread-safe.
class Catalog {
 public:
  /// Opens or makes the file. One of a newer version is kFailedPrecondition and left untouched.
  static Result<std::unique_ptr<Catalog>> open(const std::string& path);
  /// The same with a mirror in the folder `mirror` beside the file. A file that is damaged, gone or
  /// older than its mirror is moved aside (`<path>.damaged-<time>`) and made again from it; that is
  /// logged. Only what a mirror tells can come back: without one, a damaged file is kDataLoss.
  static Result<std::unique_ptr<Catalog>> open_mirrored(const std::string& path, Logger& logger);
  ~Catalog();

  /// All of `change` or nothing. On a full disk (kResourceExhausted) what drops something, or says
  /// that layers are durable, is tried once more with the room that was kept for it. kNotFound: a
  /// name or an approval for an image that is not there.
  Result<> commit(const CatalogChange& change);

  /// What `read(const CatalogState&)` makes of the state as it is now. It holds a mutex: no I/O in
  /// it.
  template <class Reader>
  auto read(Reader reader) const {
    auto state = state_.lock();
    return reader(static_cast<const CatalogState&>(*state));
  }

 private:
  Catalog(std::unique_ptr<Database> database, const std::string& path);
  Result<> load();
  Result<> check() const;
  Result<> commit(const CatalogChange& change, bool may_use_reserve);
  Result<> check_names(const CatalogChange& change) const;
  Result<> write(const CatalogChange& change);
  void mirror(const Touched& touched);
  void note(const Result<>& mirrored) const;
  Result<> take_back_roots(const MirrorContent& content);
  void bring_mirror_up_to_date(const MirrorContent& content);

  std::mutex writing_;  // one commit at a time, and never under the mutex of the state
  std::unique_ptr<Database> database_;
  sys::DiskReserve reserve_;
  Guarded<CatalogState> state_;
  int64_t generation_ = 0;          // counts the commits that waited for the disk
  std::unique_ptr<Mirror> mirror_;  // none without open_mirrored()
  Logger* logger_ = nullptr;        // for what goes wrong with it
};

/// Does to `state` what commit() does to the file.
void apply(const CatalogChange& change, CatalogState& state);

}  // namespace fluyt::image
