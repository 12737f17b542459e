#pragma once

#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "image/testing/fake_registry.h"
#include "oci/image.h"

namespace fluyt::image::testing {

/// One tar entry: a name that ends in '/' is a directory; `link` makes a symlink, `hard_link` a
/// hard link.
struct TarFile {
  std::string name;
  std::string content;
  std::string link = {};
  std::string hard_link = {};
};
/// A ustar archive. Names are written as they are, hostile ones too.
std::string make_tar(const std::vector<TarFile>& files);

/// Small images made on the spot.
class ImageMaker {
 public:
  ImageMaker();
  void add_layer(const std::vector<TarFile>& files) { add_layer_tar(make_tar(files)); }
  void add_layer_tar(std::string tar);
  /// To be changed before anything else is asked for.
  oci::ImageConfig& config() { return config_; }

  std::string config_json() const;
  oci::Manifest manifest() const;
  std::string manifest_json() const;
  std::string image_id() const;
  std::string manifest_digest() const;
  oci::Descriptor manifest_descriptor() const;
  const std::vector<std::string>& layers() const { return layers_; }  // tars, lowest first

  /// All of it under /v2/<repository>, the manifest by `tag` and by digest.
  void serve(FakeRegistry& registry, const std::string& repository, const std::string& tag) const;
  /// The files of an OCI layout, the image named by `reference_name`.
  std::vector<TarFile> layout_files(const std::string& reference_name) const;
  /// The files of a docker-archive.
  std::vector<TarFile> docker_files(const std::string& repo_tag) const;

 private:
  oci::ImageConfig config_;
  std::vector<std::string> layers_;
};

std::string sha256_of(std::string_view bytes);

}  // namespace fluyt::image::testing
