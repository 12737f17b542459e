#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "oci/digest.h"

namespace fluyt::oci {

namespace media_type {
inline constexpr std::string_view kOciIndex = "application/vnd.oci.image.index.v1+json";
inline constexpr std::string_view kOciManifest = "application/vnd.oci.image.manifest.v1+json";
inline constexpr std::string_view kOciConfig = "application/vnd.oci.image.config.v1+json";
inline constexpr std::string_view kOciLayer = "application/vnd.oci.image.layer.v1.tar";
inline constexpr std::string_view kOciLayerGzip = "application/vnd.oci.image.layer.v1.tar+gzip";
inline constexpr std::string_view kOciLayerZstd = "application/vnd.oci.image.layer.v1.tar+zstd";
inline constexpr std::string_view kDockerList =
    "application/vnd.docker.distribution.manifest.list.v2+json";
inline constexpr std::string_view kDockerManifest =
    "application/vnd.docker.distribution.manifest.v2+json";
inline constexpr std::string_view kDockerManifestV1 =
    "application/vnd.docker.distribution.manifest.v1+json";
inline constexpr std::string_view kDockerManifestV1Signed =
    "application/vnd.docker.distribution.manifest.v1+prettyjws";
inline constexpr std::string_view kDockerConfig = "application/vnd.docker.container.image.v1+json";
inline constexpr std::string_view kDockerLayerGzip =
    "application/vnd.docker.image.rootfs.diff.tar.gzip";
}  // namespace media_type

/// image-spec image-index.md, "platform".
struct Platform {
  std::string os;
  std::string architecture;
  std::string variant;
  std::string os_version;
  std::vector<std::string> os_features;
  /// os/architecture[/variant].
  std::string text() const;
  static Result<Platform> parse(std::string_view text);
  /// This machine's: linux, GOARCH's name for the CPU, the highest variant that runs here (amd64).
  static Platform host();
  bool operator==(const Platform&) const = default;
};
/// In Go's words, in lower case: images are made by people and machines, too ("x86_64").
Platform normalised(Platform platform);

/// image-spec descriptor.md.
struct Descriptor {
  std::string media_type;
  Digest digest;
  int64_t size = 0;
  std::vector<std::string> urls;
  std::map<std::string, std::string> annotations;
  std::string data;  // decoded inline content; verified against digest by whoever uses it
  std::optional<Platform> platform;
  std::string artifact_type;
};

/// An image manifest, OCI or Docker v2 schema 2. At most kMaxLayers layers.
struct Manifest {
  std::string media_type;
  std::string artifact_type;
  Descriptor config;
  std::vector<Descriptor> layers;
  std::optional<Descriptor> subject;
  std::map<std::string, std::string> annotations;
};
inline constexpr size_t kMaxLayers = 500;
inline constexpr size_t kMaxManifestBytes = 8UL << 20U;
inline constexpr size_t kMaxConfigBytes = 8UL << 20U;
/// How deep indexes may stand in each other.
inline constexpr int kMaxIndexDepth = 8;

/// An image index or Docker manifest list.
struct Index {
  std::string media_type;
  std::string artifact_type;
  std::vector<Descriptor> manifests;
  std::optional<Descriptor> subject;
  std::map<std::string, std::string> annotations;
};

/// What bytes with a manifest's media type are. A body that could be read as both (`layers` or
/// `config` beside `manifests`), or whose own mediaType differs from `content_type`, is refused
/// (CVE-2021-41190); schema 1 is refused with the reason. `content_type` may be empty for files.
struct ManifestOrIndex {
  std::optional<Manifest> manifest;
  std::optional<Index> index;
};
Result<ManifestOrIndex> parse_manifest_or_index(std::string_view json,
                                                std::string_view content_type);
Result<Manifest> parse_manifest(std::string_view json);
Result<Index> parse_index(std::string_view json);
std::string to_json(const Manifest& manifest);
std::string to_json(const Index& index);

/// Whether an image whose config says `image` is one for `platform`: the same os and architecture,
/// whatever the variants, or the architecture of 32 bits that the same machines run (386 on amd64,
/// arm on arm64). Names such as x86_64 and aarch64 are understood.
bool is_for(const Platform& image, const Platform& platform);

/// The entry of `index` that suits `platform` best: same os and architecture, the highest variant
/// not above the wanted one, and after all of these the architecture of 32 bits as is_for() has it
/// (containerd's platforms.Only); attestation manifests and unknown/unknown are passed over.
/// Entries without a platform are taken only when there is exactly one entry. kNotFound names what
/// there is.
Result<Descriptor> choose_platform(const Index& index, const Platform& platform);

/// image-spec config.md; the Docker config is the same shape.
struct ImageConfig {
  Platform platform;
  std::string created;  // RFC 3339 as found, may be empty
  std::string author;
  struct Exec {
    std::string user;
    std::vector<std::string> exposed_ports;
    std::vector<std::string> env;  // "NAME=value"; an entry without '=' is refused
    std::vector<std::string> entrypoint;
    std::vector<std::string> cmd;
    std::vector<std::string> volumes;
    std::string working_dir;
    std::map<std::string, std::string> labels;
    std::string stop_signal;
    std::vector<std::string> shell;
  } config;
  std::vector<Digest> diff_ids;
  struct History {
    std::string created;
    std::string created_by;
    std::string author;
    std::string comment;
    bool empty_layer = false;
  };
  std::vector<History> history;
};
Result<ImageConfig> parse_image_config(std::string_view json);
std::string to_json(const ImageConfig& config);

}  // namespace fluyt::oci
