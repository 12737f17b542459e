#include <nlohmann/json.hpp>
#include <utility>

#include "base/strings.h"
#include "image/archive/archive.h"
#include "image/blob/hasher.h"
#include "sys/file.h"

namespace fluyt::image::archive {

namespace {

using Json = nlohmann::json;

constexpr size_t kMaxImages = 1000;
constexpr size_t kMaxTags = 1000;

Error bad(size_t index, std::string_view what) {
  return Error(Code::kInvalidArgument, cat("manifest.json: [", index, "]", what));
}

Result<std::vector<std::string>> texts(const Json& object, const char* key, size_t index,
                                       size_t limit) {
  std::vector<std::string> out;
  const auto found = object.find(key);
  if (found == object.end() || found->is_null()) return out;
  if (!found->is_array() || found->size() > limit) {
    return bad(index, cat(".", key, ": expected an array of at most ", limit, " strings"));
  }
  for (const Json& item : *found) {
    if (!item.is_string()) return bad(index, cat(".", key, ": expected strings"));
    out.push_back(item.get<std::string>());
  }
  return out;
}

}  // namespace

// The manifest that a registry would have: the archive has none.
Result<ArchivedImage> Archive::docker_image(const std::string& config,
                                            const std::vector<std::string>& layers) {
  const auto describe = [&](const std::string& name,
                            std::string_view type) -> Result<oci::Descriptor> {
    const MemberInfo info = FLUYT_TRY(members_->info(name));
    by_digest_[info.digest] = name;
    return oci::Descriptor{.media_type = std::string(type),
                           .digest = info.digest,
                           .size = static_cast<int64_t>(info.size)};
  };
  auto described = FLUYT_TRY(describe(config, oci::media_type::kDockerConfig));
  oci::Manifest manifest{.media_type = std::string(oci::media_type::kDockerManifest),
                         .config = std::move(described)};
  for (const std::string& layer : layers) {
    manifest.layers.push_back(
        FLUYT_TRY(describe(layer, "application/vnd.docker.image.rootfs.diff.tar")));
  }
  std::string bytes = oci::to_json(manifest);
  oci::Digest digest = FLUYT_TRY(digest_of("sha256", bytes));
  return ArchivedImage{{}, std::move(digest), manifest.media_type, std::move(bytes), false};
}

Result<> Archive::load_docker() {
  const sys::Fd fd = FLUYT_TRY(members_->open("manifest.json"));
  const std::string text =
      FLUYT_TRY_CONTEXT(sys::read_all(fd, oci::kMaxManifestBytes), "manifest.json");
  const Json json = Json::parse(text, nullptr, false);
  if (!json.is_array() || json.empty() || json.size() > kMaxImages) {
    return Error(Code::kInvalidArgument,
                 cat("manifest.json: expected an array of 1 to ", kMaxImages, " images"));
  }
  for (size_t i = 0; i < json.size(); ++i) {
    const Json& item = json[i];
    if (!item.is_object() || !item.contains("Config") || !item["Config"].is_string()) {
      return bad(i, ".Config: expected a string");
    }
    const auto layers = FLUYT_TRY(texts(item, "Layers", i, oci::kMaxLayers));
    ArchivedImage image = FLUYT_TRY(docker_image(item["Config"].get<std::string>(), layers));
    image.names = FLUYT_TRY(texts(item, "RepoTags", i, kMaxTags));
    images_.push_back(std::move(image));
  }
  return {};
}

}  // namespace fluyt::image::archive
