#include <algorithm>
#include <deque>
#include <nlohmann/json.hpp>
#include <utility>

#include "base/strings.h"
#include "image/archive/archive.h"
#include "image/blob/hasher.h"
#include "oci/reference.h"
#include "sys/file.h"

namespace fluyt::image::archive {

namespace {

using Json = nlohmann::json;

constexpr size_t kMaxImages = 1000;
constexpr size_t kMaxTags = 1000;
// Of one image, for its configs: how many documents are read, and how many are known of.
constexpr size_t kMaxDocuments = 64;
constexpr size_t kMaxEntries = 4096;

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

// "busybox:1" and "docker.io/library/busybox:1" are one.
std::string normalised(const std::string& name) {
  const auto reference = oci::Reference::parse(name);
  return reference.ok() ? reference->text() : name;
}

}  // namespace

// The manifest that a registry would have: the archive has none.
Result<ArchivedImage> Archive::docker_image(const Listed& listed) {
  const auto describe = [&](const std::string& name,
                            std::string_view type) -> Result<oci::Descriptor> {
    const MemberInfo info = FLUYT_TRY(members_->info(name));
    by_digest_[info.digest] = name;
    return oci::Descriptor{.media_type = std::string(type),
                           .digest = info.digest,
                           .size = static_cast<int64_t>(info.size)};
  };
  auto described = FLUYT_TRY(describe(listed.config, oci::media_type::kDockerConfig));
  oci::Manifest manifest{.media_type = std::string(oci::media_type::kDockerManifest),
                         .config = std::move(described)};
  for (const std::string& layer : listed.layers) {
    manifest.layers.push_back(
        FLUYT_TRY(describe(layer, "application/vnd.docker.image.rootfs.diff.tar")));
  }
  std::string bytes = oci::to_json(manifest);
  oci::Digest digest = FLUYT_TRY(digest_of("sha256", bytes));
  return ArchivedImage{listed.names, std::move(digest), manifest.media_type, std::move(bytes),
                       false};
}

Result<std::vector<Archive::Listed>> Archive::read_list() const {
  const sys::Fd fd = FLUYT_TRY(members_->open("manifest.json"));
  const std::string text =
      FLUYT_TRY_CONTEXT(sys::read_all(fd, oci::kMaxManifestBytes), "manifest.json");
  const Json json = Json::parse(text, nullptr, false);
  if (!json.is_array() || json.empty() || json.size() > kMaxImages) {
    return Error(Code::kInvalidArgument,
                 cat("manifest.json: expected an array of 1 to ", kMaxImages, " images"));
  }
  std::vector<Listed> out;
  for (size_t i = 0; i < json.size(); ++i) {
    const Json& item = json[i];
    if (!item.is_object() || !item.contains("Config") || !item["Config"].is_string()) {
      return bad(i, ".Config: expected a string");
    }
    auto layers = FLUYT_TRY(texts(item, "Layers", i, oci::kMaxLayers));
    auto names = FLUYT_TRY(texts(item, "RepoTags", i, kMaxTags));
    out.push_back({item["Config"].get<std::string>(), std::move(layers), std::move(names)});
  }
  return out;
}

// Of an index those of the manifests that are in the archive. One document is in memory at a time,
// and few are looked at: members may be links to one that is large.
std::set<oci::Digest> Archive::configs_of(const ArchivedImage& image) const {
  std::set<oci::Digest> configs;
  std::set<oci::Digest> seen{image.digest};
  std::deque<std::pair<oci::Descriptor, int>> waiting;  // with how deep it stands
  const auto take = [&](std::string_view bytes, int depth) {
    const auto parsed = oci::parse_manifest_or_index(bytes, "");
    if (!parsed.ok()) return;
    if (parsed->manifest) configs.insert(parsed->manifest->config.digest);
    if (!parsed->index || depth == oci::kMaxIndexDepth) return;
    for (const oci::Descriptor& entry : parsed->index->manifests) {
      if (seen.size() > kMaxEntries || !seen.insert(entry.digest).second) continue;
      waiting.emplace_back(entry, depth + 1);
    }
  };
  take(image.bytes, 0);
  for (size_t documents = 0; !waiting.empty() && documents < kMaxDocuments;) {
    const auto [entry, depth] = std::move(waiting.front());
    waiting.pop_front();
    const auto bytes = read(entry);
    if (!bytes.ok()) continue;
    ++documents;
    const auto digest = digest_of(entry.digest.algorithm(), *bytes);
    if (digest.ok() && *digest == entry.digest) take(*bytes, depth);
  }
  return configs;
}

// What the layout has is known already; its names are the list's, too.
Result<> Archive::add_listed(const std::vector<Listed>& listed) {
  if (listed.empty()) return {};
  std::vector<std::set<oci::Digest>> known;
  std::set<std::string> names;
  for (const ArchivedImage& image : images_) {
    known.push_back(configs_of(image));
    for (const std::string& name : image.names) names.insert(normalised(name));
  }
  for (const Listed& one : listed) {
    const auto config = members_->info(one.config);
    if (!config.ok() && !known.empty()) continue;  // of another platform, and left out
    if (!config.ok()) return config.error();
    const auto same = std::find_if(known.begin(), known.end(), [&](const auto& configs) {
      return configs.contains(config->digest);
    });
    if (same == known.end()) {
      images_.push_back(FLUYT_TRY(docker_image(one)));
      continue;
    }
    ArchivedImage& image = images_[static_cast<size_t>(same - known.begin())];
    for (const std::string& name : one.names) {
      if (names.insert(normalised(name)).second) image.names.push_back(name);
    }
  }
  return {};
}

}  // namespace fluyt::image::archive
