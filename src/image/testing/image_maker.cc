#include "image/testing/image_maker.h"

#include <cstdio>

#include "base/strings.h"
#include "image/blob/hasher.h"

namespace fluyt::image::testing {

namespace {

// A ustar header (POSIX.1-1988): offsets are the format's.
std::string header_of(const TarFile& file) {
  std::string out(512, '\0');
  const bool is_dir = file.name.ends_with('/');
  const auto put = [&](size_t at, const std::string& text) { out.replace(at, text.size(), text); };
  const auto octal = [](uint64_t value, int digits) {
    char text[32];
    snprintf(text, sizeof text, "%0*llo", digits, static_cast<unsigned long long>(value));
    return std::string(text);
  };
  put(0, file.name.substr(0, 100));
  put(100, octal(is_dir ? 0755 : 0644, 7));
  put(108, octal(0, 7));
  put(116, octal(0, 7));
  put(124, octal(file.content.size(), 11));
  put(136, octal(1700000000, 11));
  put(148, "        ");
  put(156, is_dir ? "5" : !file.link.empty() ? "2" : !file.hard_link.empty() ? "1" : "0");
  put(157, file.link.empty() ? file.hard_link : file.link);
  put(257, std::string("ustar\0", 6) + "00");
  uint64_t sum = 0;
  for (const char c : out) sum += static_cast<unsigned char>(c);
  put(148, octal(sum, 6) + std::string("\0 ", 2));
  return out;
}

oci::Digest digest_of_bytes(std::string_view bytes) { return digest_of("sha256", bytes).value(); }

std::string hex_of(std::string_view bytes) { return std::string(digest_of_bytes(bytes).hex()); }

}  // namespace

std::string sha256_of(std::string_view bytes) { return digest_of_bytes(bytes).text(); }

std::string make_tar(const std::vector<TarFile>& files) {
  std::string out;
  for (const TarFile& file : files) {
    out += header_of(file);
    out += file.content;
    out.append((512 - file.content.size() % 512) % 512, '\0');
  }
  out.append(1024, '\0');
  return out;
}

ImageMaker::ImageMaker() {
  config_.platform = oci::Platform::host();
  config_.platform.variant.clear();
}

void ImageMaker::add_layer_tar(std::string tar) {
  config_.diff_ids.push_back(digest_of_bytes(tar));
  layers_.push_back(std::move(tar));
}

std::string ImageMaker::config_json() const { return oci::to_json(config_); }
std::string ImageMaker::image_id() const { return sha256_of(config_json()); }

oci::Manifest ImageMaker::manifest() const {
  const std::string config = config_json();
  oci::Manifest out{.media_type = std::string(oci::media_type::kOciManifest),
                    .config = {.media_type = std::string(oci::media_type::kOciConfig),
                               .digest = digest_of_bytes(config),
                               .size = static_cast<int64_t>(config.size())}};
  for (const std::string& layer : layers_) {
    out.layers.push_back({.media_type = std::string(oci::media_type::kOciLayer),
                          .digest = digest_of_bytes(layer),
                          .size = static_cast<int64_t>(layer.size())});
  }
  return out;
}

std::string ImageMaker::manifest_json() const { return oci::to_json(manifest()); }
std::string ImageMaker::manifest_digest() const { return sha256_of(manifest_json()); }

oci::Descriptor ImageMaker::manifest_descriptor() const {
  const std::string json = manifest_json();
  return {.media_type = std::string(oci::media_type::kOciManifest),
          .digest = digest_of_bytes(json),
          .size = static_cast<int64_t>(json.size()),
          .platform = config_.platform};
}

void ImageMaker::serve(FakeRegistry& registry, const std::string& repository,
                       const std::string& tag) const {
  const std::string base = cat("/v2/", repository);
  const std::string json = manifest_json();
  for (const std::string& target : {tag, sha256_of(json)}) {
    registry.serve(cat(base, "/manifests/", target), std::string(oci::media_type::kOciManifest),
                   json);
  }
  registry.serve(cat(base, "/blobs/", image_id()), "application/octet-stream", config_json());
  for (const std::string& layer : layers_) {
    registry.serve(cat(base, "/blobs/", sha256_of(layer)), "application/octet-stream", layer);
  }
}

std::vector<TarFile> ImageMaker::layout_files(const std::string& reference_name) const {
  oci::Descriptor entry = manifest_descriptor();
  if (!reference_name.empty()) {
    entry.annotations["org.opencontainers.image.ref.name"] = reference_name;
  }
  std::vector<TarFile> out{{"oci-layout", R"({"imageLayoutVersion":"1.0.0"})"},
                           {"index.json", oci::to_json(oci::Index{.manifests = {entry}})},
                           {"blobs/", ""},
                           {"blobs/sha256/", ""}};
  std::vector<std::string> blobs = layers_;
  blobs.push_back(config_json());
  blobs.push_back(manifest_json());
  for (const std::string& blob : blobs) out.push_back({cat("blobs/sha256/", hex_of(blob)), blob});
  return out;
}

std::vector<TarFile> ImageMaker::docker_files(const std::string& repo_tag) const {
  const std::string config_name = hex_of(config_json()) + ".json";
  std::vector<TarFile> out{{config_name, config_json()}};
  std::string layers;
  for (size_t i = 0; i < layers_.size(); ++i) {
    const std::string name = cat("layer", i, "/layer.tar");
    out.push_back({name, layers_[i]});
    layers += cat(i == 0 ? "" : ",", "\"", name, "\"");
  }
  const std::string tags = repo_tag.empty() ? "null" : cat("[\"", repo_tag, "\"]");
  out.push_back({"manifest.json", cat("[{\"Config\":\"", config_name, "\",\"RepoTags\":", tags,
                                      ",\"Layers\":[", layers, "]}]")});
  return out;
}

}  // namespace fluyt::image::testing
