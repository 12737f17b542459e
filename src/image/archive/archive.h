#pragma once

#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "image/archive/members.h"
#include "oci/image.h"

namespace fluyt::image::archive {

/// One image in an archive: what its name points at, as bytes whose digest was checked.
struct ArchivedImage {
  std::vector<std::string> names;  // as the archive gives them: to be parsed as references
  oci::Digest digest;
  std::string media_type;
  std::string bytes;         // of a manifest or index
  bool is_original = false;  // the bytes are the archive's own, not made here from a manifest.json
};

/// An image archive on disk: an OCI layout folder, or a tar (plain, gzip, zstd) of an OCI layout
/// (oci-archive) or of `docker save` (docker-archive). What it is, is told by what is in it; of one
/// that is both the images of both, each once, by the layout's manifests where it has them.
/// Thread-safe once open.
class Archive {
 public:
  static Result<std::unique_ptr<Archive>> open(const std::string& path, const TarOptions& options);
  /// The same of files that are at hand.
  static Result<std::unique_ptr<Archive>> read(std::unique_ptr<Members> members);

  /// At least one. Some may be no image, or for other machines.
  const std::vector<ArchivedImage>& images() const { return images_; }
  /// A manifest below an index, at most kMaxManifestBytes; its digest is for the caller to check.
  Result<std::string> read(const oci::Descriptor& descriptor) const;
  /// Streams a blob of exactly descriptor.size bytes; its digest is for the consumer to check.
  /// kDataLoss where the archive lacks it.
  Result<> stream(const oci::Descriptor& descriptor,
                  const std::function<Result<>(std::string_view)>& sink) const;

 private:
  explicit Archive(std::unique_ptr<Members> members) : members_(std::move(members)) {}
  /// An entry of manifest.json.
  struct Listed {
    std::string config;  // members' names
    std::vector<std::string> layers;
    std::vector<std::string> names;
  };
  Result<> load();
  Result<> load_layout(size_t listed);
  Result<std::vector<Listed>> read_list() const;
  Result<> add_listed(const std::vector<Listed>& listed);
  Result<ArchivedImage> docker_image(const Listed& listed);
  bool are_one_image(const std::vector<oci::Descriptor>& entries) const;
  /// What an entry of index.json is, as far as the archive has it.
  struct Entry {
    std::string platform;  // "" where neither the entry nor a config says it
    std::optional<oci::Digest> config;
    bool is_index = false;
  };
  Entry look_at(const oci::Descriptor& entry) const;
  std::set<oci::Digest> configs_of(const ArchivedImage& image) const;
  std::string member_of(const oci::Digest& digest) const;

  std::unique_ptr<Members> members_;
  std::map<oci::Digest, std::string> by_digest_;  // of a docker-archive
  std::vector<ArchivedImage> images_;
};

}  // namespace fluyt::image::archive
