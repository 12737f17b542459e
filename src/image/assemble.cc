#include "image/assemble.h"

#include <algorithm>
#include <array>
#include <optional>
#include <set>
#include <utility>

#include "base/strings.h"
#include "image/blob/hasher.h"

namespace fluyt::image {

namespace {

Result<> check_digest(const oci::Descriptor& descriptor, std::string_view bytes,
                      std::string_view what) {
  if (bytes.size() != static_cast<uint64_t>(descriptor.size)) {
    return Error(Code::kDataLoss, cat(what, " ", descriptor.digest.text(), ": ", bytes.size(),
                                      " bytes, expected ", descriptor.size));
  }
  const oci::Digest computed = FLUYT_TRY(digest_of(descriptor.digest.algorithm(), bytes));
  if (computed != descriptor.digest) {
    return Error(Code::kDataLoss, cat(what, ": the bytes are ", computed.text(), ", expected ",
                                      descriptor.digest.text()));
  }
  return {};
}

// A manifest below an index. What the index carries inline saves a request.
Result<std::string> nested_manifest(ContentSource& source, const oci::Descriptor& descriptor) {
  std::string bytes = descriptor.data;
  if (bytes.empty()) bytes = FLUYT_TRY(source.manifest(descriptor));
  FLUYT_TRY(check_digest(descriptor, bytes, "manifest"));
  return bytes;
}

Result<std::string> fetch_config(ContentSource& source, const oci::Descriptor& descriptor) {
  if (!descriptor.data.empty()) {
    FLUYT_TRY(check_digest(descriptor, descriptor.data, "config"));
    return descriptor.data;
  }
  if (static_cast<uint64_t>(descriptor.size) > oci::kMaxConfigBytes) {
    return Error(Code::kResourceExhausted, cat("config of ", descriptor.size, " bytes: at most ",
                                               oci::kMaxConfigBytes, " are taken"));
  }
  while (true) {
    std::string bytes;
    FLUYT_TRY(source.stream(descriptor, [&](std::string_view piece) -> Result<> {
      bytes += piece;
      return {};
    }));
    auto checked = check_digest(descriptor, bytes, "config");
    if (checked.ok()) return bytes;
    if (!source.has_another(descriptor)) return std::move(checked).error();
  }
}

// By their types what people push to registries beside images.
struct ArtifactName {
  std::string_view type;  // how it begins
  std::string_view name;
};
constexpr std::array<ArtifactName, 10> kArtifactNames{{
    {"application/vnd.dev.sigstore.bundle", "a sigstore bundle"},
    {"application/vnd.dev.cosign.simplesigning", "a cosign signature"},
    {"application/vnd.dev.cosign.artifact.sig", "a cosign signature"},
    {"application/vnd.cncf.notary.signature", "a Notary signature"},
    {"application/vnd.dsse.envelope", "an attestation"},
    {"application/vnd.in-toto", "an attestation"},
    {"application/vnd.cncf.helm.", "a Helm chart"},
    {"application/spdx", "an SBOM"},
    {"text/spdx", "an SBOM"},
    {"application/vnd.cyclonedx", "an SBOM"},
}};

std::string_view artifact_name(const oci::Manifest& manifest) {
  const auto& layers = manifest.layers;
  for (const std::string_view type :
       {std::string_view(manifest.artifact_type), std::string_view(manifest.config.media_type),
        layers.empty() ? std::string_view() : std::string_view(layers.front().media_type)}) {
    const auto* const known = std::ranges::find_if(
        kArtifactNames, [&](const ArtifactName& one) { return type.starts_with(one.type); });
    if (known != kArtifactNames.end()) return known->name;
  }
  return {};
}

// The specification lets Docker write foreign layers; what is none of these is no file system.
bool is_layer_type(std::string_view type) {
  return type.starts_with(oci::media_type::kOciLayer) ||
         type.starts_with("application/vnd.oci.image.layer.nondistributable.v1.tar") ||
         type.starts_with("application/vnd.docker.image.rootfs.diff.tar") ||
         type.starts_with("application/vnd.docker.image.rootfs.foreign.diff.tar");
}

// What tells an artifact (image-spec manifest.md, "Guidelines for Artifact Usage"): the type of its
// config, or that none of its layers is a file system, as with signatures and attestations that
// have an image's config.
Result<> check_is_image(const oci::Manifest& manifest) {
  const std::string& type = manifest.config.media_type;
  const bool has_config =
      type == oci::media_type::kOciConfig || type == oci::media_type::kDockerConfig;
  const auto& layers = manifest.layers;
  const bool has_layers =
      layers.empty() || std::ranges::any_of(layers, [](const oci::Descriptor& layer) {
        return is_layer_type(layer.media_type);
      });
  if (has_config && has_layers) return {};
  const std::string found = has_config
                                ? cat("layers[0].mediaType: ", quote(layers.front().media_type),
                                      ": expected the type of a file system layer")
                                : cat("config.mediaType: ", quote(type), ": expected ",
                                      oci::media_type::kOciConfig, " or Docker's");
  const std::string_view name = artifact_name(manifest);
  const std::string artifact =
      manifest.artifact_type.empty() ? "" : cat(" (", quote(manifest.artifact_type), ")");
  return Error(Code::kInvalidArgument, cat(found, ": this is an artifact, not an image",
                                           name.empty() ? "" : ": ", name, artifact));
}

Result<> check_layers(const oci::Manifest& manifest, const oci::ImageConfig& config) {
  if (manifest.layers.size() != config.diff_ids.size()) {
    return Error(Code::kInvalidArgument,
                 cat("the manifest has ", manifest.layers.size(), " layers, its config ",
                     config.diff_ids.size(), " rootfs.diff_ids: expected as many"));
  }
  if (manifest.layers.empty()) {
    return Error(Code::kInvalidArgument, "layers: expected at least one");
  }
  for (size_t i = 0; i < manifest.layers.size(); ++i) {
    const std::string& type = manifest.layers[i].media_type;
    if (type.find("+encrypted") != std::string::npos) {
      return Error(Code::kUnimplemented, cat("layers[", i, "].mediaType: ", quote(type),
                                             ": encrypted layers are not done"));
    }
    if (!is_layer_type(type)) {
      return Error(Code::kInvalidArgument, cat("layers[", i, "].mediaType: ", quote(type),
                                               ": expected the type of a file system layer"));
    }
  }
  return {};
}

Result<> check_platform(const oci::Platform& found, const oci::Platform& wanted) {
  if (oci::is_for(found, wanted)) return {};
  return Error(Code::kNotFound, cat("platform ", quote(wanted.text()), ": this image is for ",
                                    quote(found.text()), " only"));
}

constexpr size_t kMaxSilentEntries = 16;

// What the config of a manifest below an index says; nothing where it is no image.
Result<std::optional<oci::Platform>> platform_of(ContentSource& source,
                                                 const oci::Descriptor& entry) {
  const std::optional<oci::Platform> none;
  const std::string bytes = FLUYT_TRY(nested_manifest(source, entry));
  const auto parsed = oci::parse_manifest_or_index(bytes, entry.media_type);
  if (!parsed.ok() || !parsed->manifest || !check_is_image(*parsed->manifest).ok()) return none;
  const auto config =
      oci::parse_image_config(FLUYT_TRY(fetch_config(source, parsed->manifest->config)));
  return config.ok() ? std::optional(config->platform) : none;
}

bool is_native(const oci::Platform& found, const oci::Platform& wanted) {
  return oci::normalised(found).architecture == oci::normalised(wanted).architecture;
}

// What another entry can stand in for: it is not there, or not what the index says.
bool is_unusable(const Error& error) {
  const Code code = error.code();
  return code == Code::kNotFound || code == Code::kDataLoss || code == Code::kResourceExhausted;
}

// What an index of artifacts says of these, as the answer of "referrers" does.
std::string types_of(const oci::Index& index) {
  std::set<std::string> types;
  for (const oci::Descriptor& entry : index.manifests) {
    if (!entry.artifact_type.empty()) types.insert(quote(entry.artifact_type));
  }
  if (types.empty()) return {};
  return cat(" (", join({types.begin(), types.end()}, ", "), ")");
}

// Where the index does not say what its entries are for their configs do.
Result<oci::Descriptor> choose(ContentSource& source, oci::Index index,
                               const oci::Platform& platform) {
  auto chosen = oci::choose_platform(index, platform);
  const auto silent = std::count_if(index.manifests.begin(), index.manifests.end(),
                                    [](const auto& entry) { return !entry.platform; });
  if (silent == 0 || static_cast<size_t>(silent) > kMaxSilentEntries) return chosen;
  if (chosen.ok() && (!chosen->platform || is_native(*chosen->platform, platform))) return chosen;
  std::optional<Error> first;
  bool has_image = std::ranges::any_of(index.manifests, [](const oci::Descriptor& entry) {
    return entry.platform || entry.media_type == oci::media_type::kOciIndex ||
           entry.media_type == oci::media_type::kDockerList;
  });
  for (oci::Descriptor& entry : index.manifests) {
    if (entry.platform) continue;
    auto found = platform_of(source, entry);
    if (found.ok()) {
      has_image = has_image || found->has_value();
      entry.platform = std::move(*found);
    } else if (!is_unusable(found.error())) {
      return std::move(found).error();
    } else if (!first.has_value()) {
      first = std::move(found).error();
    }
  }
  chosen = oci::choose_platform(index, platform);
  if (!chosen.ok() && first.has_value()) return std::move(*first);
  if (!chosen.ok() && !has_image) {
    return Error(Code::kInvalidArgument,
                 cat("image index: none of its ", index.manifests.size(),
                     " entries is an image: it lists artifacts", types_of(index)));
  }
  return chosen;
}

}  // namespace

Result<ImagePlan> plan_image(ContentSource& source, Document top, std::string_view content_type,
                             const oci::Platform& platform, const Approval& approval) {
  std::vector<Document> indexes;
  const oci::Descriptor described{.media_type = std::string(content_type),
                                  .digest = top.digest,
                                  .size = static_cast<int64_t>(top.bytes.size())};
  const oci::Digest target = top.digest;
  std::string type(content_type);
  std::optional<oci::Manifest> manifest;
  for (int depth = 0; !manifest.has_value(); ++depth) {
    oci::ManifestOrIndex parsed =
        FLUYT_TRY_CONTEXT(oci::parse_manifest_or_index(top.bytes, type), top.digest.text());
    if (parsed.manifest.has_value()) {
      manifest = std::move(parsed.manifest);
      break;
    }
    if (depth == oci::kMaxIndexDepth) {
      return Error(Code::kInvalidArgument,
                   cat("image index: more than ", oci::kMaxIndexDepth, " indexes in each other"));
    }
    const oci::Descriptor next =
        FLUYT_TRY_CONTEXT(choose(source, std::move(*parsed.index), platform), top.digest.text());
    indexes.push_back(std::move(top));
    auto nested = FLUYT_TRY(nested_manifest(source, next));
    top = Document{next.digest, std::move(nested)};
    type = next.media_type;
  }
  FLUYT_TRY_CONTEXT(check_is_image(*manifest), cat("image manifest ", top.digest.text()));
  if (approval) FLUYT_TRY(approval(described, top.digest));
  std::string config_bytes = FLUYT_TRY(fetch_config(source, manifest->config));
  oci::ImageConfig config =
      FLUYT_TRY_CONTEXT(oci::parse_image_config(config_bytes), manifest->config.digest.text());
  FLUYT_TRY_CONTEXT(check_platform(config.platform, platform), top.digest.text());
  FLUYT_TRY_CONTEXT(check_layers(*manifest, config), cat("image manifest ", top.digest.text()));

  ImagePlan out{manifest->config.digest.text(),
                top.digest,
                target,
                {},
                std::move(config),
                manifest->layers,
                config_bytes.size()};
  for (const oci::Descriptor& layer : out.layers) out.size += static_cast<uint64_t>(layer.size);
  out.documents.push_back({manifest->config.digest, std::move(config_bytes)});
  out.documents.push_back(std::move(top));
  for (Document& index : indexes) out.documents.push_back(std::move(index));
  return out;
}

}  // namespace fluyt::image
