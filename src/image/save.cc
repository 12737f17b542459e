#include <map>
#include <nlohmann/json.hpp>
#include <set>

#include "base/strings.h"
#include "image/archive/tar_writer.h"
#include "image/blob/hasher.h"
#include "image/store.h"
#include "sys/file.h"

namespace fluyt::image {

namespace {

using Json = nlohmann::ordered_json;

constexpr size_t kReadBytes = 256UL << 10U;

std::string path_of(const oci::Digest& digest) {
  return cat("blobs/", digest.algorithm(), "/", digest.hex());
}

std::string to_text(const Json& json) {
  return json.dump(-1, ' ', false, Json::error_handler_t::replace);
}

// An image of the archive, once, however many names were given for it.
struct Saved {
  ImageRow row;
  std::vector<oci::Reference> names;
  oci::Manifest manifest;
  std::string bytes;  // of the manifest
};

// image-spec image-layout.md; the names as containerd and Docker write them.
std::string index_json(const std::vector<Saved>& images) {
  Json manifests = Json::array();
  for (const Saved& image : images) {
    const std::string type = image.manifest.media_type.empty()
                                 ? std::string(oci::media_type::kOciManifest)
                                 : image.manifest.media_type;
    Json entry = {{"mediaType", type},
                  {"digest", image.row.manifest_digest.text()},
                  {"size", image.bytes.size()}};
    if (image.names.empty()) manifests.push_back(entry);
    for (const oci::Reference& name : image.names) {
      entry["annotations"] = {{"io.containerd.image.name", name.text()},
                              {"org.opencontainers.image.ref.name", name.tag}};
      manifests.push_back(entry);
    }
  }
  return to_text({{"schemaVersion", 2},
                  {"mediaType", oci::media_type::kOciIndex},
                  {"manifests", std::move(manifests)}});
}

// What `docker load` and podman read.
std::string manifest_json(const std::vector<Saved>& images) {
  Json out = Json::array();
  for (const Saved& image : images) {
    Json tags = Json::array();
    for (const oci::Reference& name : image.names) tags.push_back(name.familiar());
    Json layers = Json::array();
    Json sources = Json::object();
    for (size_t i = 0; i < image.manifest.layers.size(); ++i) {
      const oci::Descriptor& layer = image.manifest.layers[i];
      layers.push_back(path_of(layer.digest));
      sources[image.row.layers[i].diff_id.text()] = {
          {"mediaType", layer.media_type}, {"size", layer.size}, {"digest", layer.digest.text()}};
    }
    out.push_back({{"Config", path_of(image.manifest.config.digest)},
                   {"RepoTags", tags.empty() ? Json() : std::move(tags)},
                   {"Layers", std::move(layers)},
                   {"LayerSources", std::move(sources)}});
  }
  return to_text(out);
}

Result<> copy_blob(const BlobStore& blobs, const oci::Digest& digest, uint64_t size,
                   archive::TarWriter& tar, const std::atomic<bool>* cancelled) {
  const sys::Fd file = FLUYT_TRY(blobs.open_blob(digest));
  FLUYT_TRY(tar.begin_file(path_of(digest), size));
  Hasher hasher = FLUYT_TRY(Hasher::create(digest.algorithm()));
  std::string buffer(kReadBytes, '\0');
  while (const size_t got = FLUYT_TRY(sys::read_some(file, buffer))) {
    if (cancelled != nullptr && *cancelled) {
      return Error(Code::kCancelled, "save: cancelled by the caller");
    }
    const auto piece = std::string_view(buffer).substr(0, got);
    FLUYT_TRY(hasher.update(piece));
    FLUYT_TRY(tar.data(piece));
  }
  FLUYT_TRY(tar.end_file());
  const oci::Digest found = FLUYT_TRY(hasher.finish());
  if (found == digest) return {};
  return Error(Code::kDataLoss, cat("blob ", digest.text(), ": its bytes on disk are ",
                                    found.text(), "; `fluyt image verify --repair` mends it"));
}

}  // namespace

Result<> Store::save(const SaveOptions& options,
                     const std::function<Result<>(std::string_view)>& sink) {
  if (options.images.empty()) {
    return Error(Code::kInvalidArgument, "save: images: expected at least one");
  }
  std::vector<Saved> images;
  std::vector<Hold> holds;
  for (const std::string& wanted : options.images) {
    const auto row = FLUYT_TRY(find_row(wanted));
    if (!row.has_value()) {
      return Error(Code::kNotFound, cat("save ", quote(wanted), ": no such image"));
    }
    auto image = std::find_if(images.begin(), images.end(),
                              [&](const Saved& other) { return other.row.id == row->id; });
    if (image == images.end()) {
      holds.emplace_back(*this, *row, cat("save of ", wanted));
      Sendable sendable = FLUYT_TRY(get_sendable(*row, wanted, "save"));
      images.push_back({*row, {}, std::move(sendable.manifest), std::move(sendable.bytes)});
      image = std::prev(images.end());
    }
    const auto reference = oci::Reference::parse(wanted);
    const bool is_tag = reference.ok() && !reference->digest.has_value();
    const bool is_name = is_tag && catalog_->read([&](const CatalogState& state) {
      return state.names.contains(reference->text());
    });
    if (is_name) image->names.push_back(*reference);
  }

  std::map<oci::Digest, uint64_t> blobs;
  for (const Saved& image : images) {
    blobs[image.row.manifest_digest] = image.bytes.size();
    blobs[image.manifest.config.digest] = static_cast<uint64_t>(image.manifest.config.size);
    for (const oci::Descriptor& layer : image.manifest.layers) {
      blobs[layer.digest] = static_cast<uint64_t>(layer.size);
    }
  }
  archive::TarWriter tar(sink);
  FLUYT_TRY(tar.folder("blobs/"));
  std::set<std::string> algorithms;
  for (const auto& [digest, size] : blobs) algorithms.emplace(digest.algorithm());
  for (const std::string& algorithm : algorithms)
    FLUYT_TRY(tar.folder(cat("blobs/", algorithm, "/")));
  for (const auto& [digest, size] : blobs) {
    FLUYT_TRY(copy_blob(blobs_, digest, size, tar, options.cancelled));
  }
  FLUYT_TRY(tar.file("index.json", index_json(images)));
  if (options.format == ArchiveFormat::kDocker) {
    FLUYT_TRY(tar.file("manifest.json", manifest_json(images)));
  }
  FLUYT_TRY(tar.file("oci-layout", R"({"imageLayoutVersion":"1.0.0"})"));
  return tar.finish();
}

}  // namespace fluyt::image
