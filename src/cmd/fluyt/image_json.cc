#include "cmd/fluyt/image_json.h"

#include <nlohmann/json.hpp>

namespace fluyt::cli {

namespace {

using Json = nlohmann::ordered_json;

Json texts(const google::protobuf::RepeatedPtrField<std::string>& from) {
  Json out = Json::array();
  for (const std::string& text : from) out.push_back(text);
  return out;
}

Json layer_json(const control::ImageLayer& layer) {
  return {{"diffId", layer.diff_id()},       {"digest", layer.blob_digest()},
          {"mediaType", layer.media_type()}, {"size", layer.blob_bytes()},
          {"diskBytes", layer.disk_bytes()}, {"inodes", layer.inodes()},
          {"blobKept", layer.blob_kept()},   {"durable", layer.durable()},
          {"images", texts(layer.images())}, {"containers", texts(layer.containers())}};
}

Json detail_json(const control::ImageDetail& detail) {
  Json layers = Json::array();
  for (const control::ImageLayer& layer : detail.layers()) layers.push_back(layer_json(layer));
  Json labels = Json::object();
  for (const auto& [key, value] : detail.labels()) labels[key] = value;
  return {{"id", detail.image().id()},
          {"repoTags", texts(detail.image().repo_tags())},
          {"repoDigests", texts(detail.image().repo_digests())},
          {"manifestDigest", detail.manifest_digest()},
          {"created", detail.created()},
          {"platform", detail.platform()},
          {"labels", std::move(labels)},
          {"pinned", detail.pinned()},
          {"pushable", detail.pushable()},
          {"size", detail.image().size()},
          {"diskBytes", detail.disk_bytes()},
          {"sharedBytes", detail.shared_bytes()},
          {"uniqueBytes", detail.unique_bytes()},
          {"containers", texts(detail.containers())},
          {"layers", std::move(layers)}};
}

// ASCII alone: control characters and everything else a terminal might act on is escaped.
std::string dump(const Json& json) {
  return json.dump(2, ' ', true, Json::error_handler_t::replace);
}

}  // namespace

std::string image_json(const control::InspectImageResponse& found) {
  Json out = detail_json(found.image());
  out["config"] = Json::parse(found.config(), nullptr, false);
  return dump(out);
}

std::string image_list_json(const std::vector<const control::ImageDetail*>& images) {
  Json out = Json::array();
  for (const control::ImageDetail* image : images) out.push_back(detail_json(*image));
  return dump(out);
}

}  // namespace fluyt::cli
