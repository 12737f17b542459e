#include "image/sendable.h"

#include <algorithm>
#include <nlohmann/json.hpp>

#include "base/strings.h"
#include "image/store.h"

namespace fluyt::image {

namespace {

using Json = nlohmann::ordered_json;

constexpr std::string_view kDockerLayer = "application/vnd.docker.image.rootfs.diff.tar";

}  // namespace

std::optional<std::string> layer_type(std::string_view original, LayerCompression compression) {
  const bool gzip = compression == LayerCompression::kGzip;
  if (original.starts_with(kDockerLayer)) {
    return std::string(gzip ? oci::media_type::kDockerLayerGzip : kDockerLayer);
  }
  if (original.starts_with(oci::media_type::kOciLayer)) {
    return std::string(gzip ? oci::media_type::kOciLayerGzip : oci::media_type::kOciLayer);
  }
  return std::nullopt;
}

Result<std::string> with_layers(const std::string& manifest,
                                const std::map<size_t, oci::Descriptor>& changed) {
  Json parsed = Json::parse(manifest, nullptr, false);
  const auto layers = parsed.is_object() ? parsed.find("layers") : parsed.end();
  if (layers == parsed.end() || !layers->is_array()) {
    return Error(Code::kDataLoss, "manifest: layers: expected an array");
  }
  for (const auto& [place, layer] : changed) {
    if (place >= layers->size()) {
      return Error(Code::kDataLoss,
                   cat("manifest: layers[", place, "]: there are ", layers->size()));
    }
    (*layers)[place] = {
        {"mediaType", layer.media_type}, {"digest", layer.digest.text()}, {"size", layer.size}};
  }
  return parsed.dump(-1, ' ', false, Json::error_handler_t::replace);
}

Result<Store::Sendable> Store::get_sendable(const ImageRow& row, const std::string& name,
                                            std::string_view verb) const {
  std::string bytes = FLUYT_TRY_CONTEXT(blobs_.get(row.manifest_digest, oci::kMaxManifestBytes),
                                        cat(verb, " ", quote(name)));
  auto manifest = FLUYT_TRY(oci::parse_manifest(bytes));
  if (manifest.layers.size() != row.layers.size()) {
    return Error(Code::kDataLoss,
                 cat(verb, " ", quote(name), ": its manifest has ", manifest.layers.size(),
                     " layers, expected ", row.layers.size()));
  }
  std::vector<size_t> lacking;
  catalog_->read([&](const CatalogState& state) {
    for (size_t i = 0; i < row.layers.size(); ++i) {
      if (!state.blobs.contains(row.layers[i].blob_digest)) lacking.push_back(i);
    }
    return 0;
  });
  return Sendable{row.manifest_digest, std::move(bytes), std::move(manifest), std::move(lacking)};
}

Result<std::optional<LayerArchive>> Store::find_archive(const ImageRow& row,
                                                        const Sendable& sendable,
                                                        size_t place) const {
  const std::string& type = sendable.manifest.layers[place].media_type;
  if (!layer_type(type, LayerCompression::kNone).has_value()) return std::optional<LayerArchive>();
  return layers_->find_archive(row.layers[place].diff_id);
}

Error Store::lacks_blobs(const Sendable& sendable, const std::vector<size_t>& places,
                         const std::string& name, std::string_view verb) const {
  const char* advice =
      now()->keep_blobs == KeepBlobs::kNever
          ? "set image.keep_blobs to \"pushable\" in fluytd's configuration, and pull it again"
          : "`fluyt pull` of its name fetches what is missing; image.keep_blobs = \"always\" "
            "keeps them from the start";
  const auto& layers = sendable.manifest.layers;
  return Error(
      Code::kFailedPrecondition,
      cat(verb, " ", quote(name), ": ", places.size(), " of its ", layers.size(),
          " layers are here as trees alone, such as ", layers[places.front()].digest.text(),
          ": expected their blobs, too, since a tree does not give back its archive; ", advice));
}

}  // namespace fluyt::image
