#include <algorithm>
#include <array>

#include "base/strings.h"
#include "oci/image.h"
#include "oci/json_reader.h"
#include "oci/json_writer.h"

namespace fluyt::oci {
namespace {

using json::Json;
using json::Node;
using json::Object;
using json::Ordered;

constexpr size_t kMaxIndexEntries = 4096;

enum class Shape { kUnknown, kManifest, kIndex };

Shape shape_of(std::string_view media_type) {
  if (media_type == media_type::kOciManifest || media_type == media_type::kDockerManifest) {
    return Shape::kManifest;
  }
  if (media_type == media_type::kOciIndex || media_type == media_type::kDockerList) {
    return Shape::kIndex;
  }
  return Shape::kUnknown;
}

bool is_schema_one(std::string_view media_type) {
  return media_type == media_type::kDockerManifestV1 ||
         media_type == media_type::kDockerManifestV1Signed;
}

Error schema_one() {
  return {Code::kInvalidArgument,
          "a Docker schema 1 manifest: expected schema 2 or OCI; push the image again with a "
          "current tool"};
}

/// What a server sends that knows nothing of media types.
bool says_nothing(std::string_view media_type) {
  return media_type.empty() || media_type == "application/json" ||
         media_type == "application/octet-stream" || media_type == "text/plain";
}

constexpr std::array<int8_t, 256> base64_values() {
  std::array<int8_t, 256> values{};
  values.fill(-1);
  constexpr std::string_view alphabet =
      "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
  for (size_t i = 0; i < alphabet.size(); ++i) {
    values[static_cast<unsigned char>(alphabet[i])] = static_cast<int8_t>(i);
  }
  return values;
}

std::optional<std::string> decode_base64(std::string_view text) {
  static constexpr auto kValues = base64_values();
  if (text.size() % 4 != 0) {
    return std::nullopt;
  }
  while (!text.empty() && text.back() == '=') {
    text.remove_suffix(1);
  }
  if (text.size() % 4 == 1) {
    return std::nullopt;
  }
  std::string out;
  uint32_t bits = 0;
  int count = 0;
  for (const char c : text) {
    const int8_t value = kValues[static_cast<unsigned char>(c)];
    if (value < 0) {
      return std::nullopt;
    }
    bits = (bits << 6U) | static_cast<uint32_t>(value);
    count += 6;
    if (count >= 8) {
      count -= 8;
      out += static_cast<char>((bits >> static_cast<unsigned>(count)) & 0xFFU);
    }
  }
  return out;
}

std::string encode_base64(std::string_view bytes) {
  constexpr std::string_view alphabet =
      "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
  std::string out;
  for (size_t i = 0; i < bytes.size(); i += 3) {
    const size_t count = std::min<size_t>(3, bytes.size() - i);
    uint32_t bits = 0;
    for (size_t k = 0; k < 3; ++k) {
      bits = (bits << 8U) | (k < count ? static_cast<unsigned char>(bytes[i + k]) : 0U);
    }
    for (unsigned k = 0; k < 4; ++k) {
      out += k <= count ? alphabet[(bits >> (18 - 6 * k)) & 63U] : '=';
    }
  }
  return out;
}

void read_platform(const Node& node, Platform& out) {
  const Object object(node);
  object.field("os", out.os);
  object.field("architecture", out.architecture);
  object.field("variant", out.variant);
  object.field("os.version", out.os_version);
  object.field("os.features", out.os_features);
}

void read_digest(const Node& node, std::optional<Digest>& out) {
  std::string text;
  read(node, text);
  if (node.failed()) {
    return;
  }
  if (auto digest = Digest::parse(text); digest.ok()) {
    out = std::move(digest).value();
  } else {
    node.refuse(digest.error().message());
  }
}

void read_data(const Node& node, std::string& out) {
  std::string encoded;
  read(node, encoded);
  if (auto decoded = decode_base64(encoded)) {
    out = std::move(*decoded);
  } else {
    node.expected("base64");
  }
}

/// Empty when something was noted: a Descriptor cannot be made without its digest.
std::optional<Descriptor> read_descriptor(const Node& node) {
  const Object object(node);
  for (const char* key : {"mediaType", "digest", "size"}) {
    object.require(key);
  }
  std::optional<Digest> digest;
  object.with("digest", [&](const Node& at) { read_digest(at, digest); });
  if (!digest) {
    return std::nullopt;
  }
  Descriptor out{.digest = std::move(*digest)};
  object.field("mediaType", out.media_type);
  object.with("size", [&](const Node& at) {
    read(at, out.size);
    if (out.size < 0) {
      at.expected("a size of 0 or more");
    }
  });
  object.field("urls", out.urls);
  object.field("annotations", out.annotations);
  object.with("data", [&](const Node& at) { read_data(at, out.data); });
  object.object("platform", out.platform, read_platform);
  object.field("artifactType", out.artifact_type);
  return out;
}

std::vector<Descriptor> read_descriptors(const Node& node, size_t limit) {
  std::vector<Descriptor> out;
  const Json& value = node.value();
  if (!value.is_array()) {
    node.expected("an array");
    return out;
  }
  if (value.size() > limit) {
    node.refuse(cat(value.size(), " entries: expected at most ", limit));
    return out;
  }
  for (size_t i = 0; i < value.size(); ++i) {
    auto one = read_descriptor(Node(value[i], node, Node::Kind::kIndex, {}, i));
    if (!one || node.failed()) {
      return out;
    }
    out.push_back(std::move(*one));
  }
  return out;
}

std::optional<Manifest> read_manifest(const Node& node) {
  const Object object(node);
  object.require("config");
  object.require("layers");
  std::optional<Descriptor> config;
  object.with("config", [&](const Node& at) { config = read_descriptor(at); });
  if (!config) {
    return std::nullopt;
  }
  Manifest out{.config = std::move(*config)};
  object.field("mediaType", out.media_type);
  object.field("artifactType", out.artifact_type);
  object.with("layers", [&](const Node& at) { out.layers = read_descriptors(at, kMaxLayers); });
  object.with("subject", [&](const Node& at) { out.subject = read_descriptor(at); });
  object.field("annotations", out.annotations);
  return out;
}

Index read_index(const Node& node) {
  const Object object(node);
  object.require("manifests");
  Index out;
  object.field("mediaType", out.media_type);
  object.with("manifests",
              [&](const Node& at) { out.manifests = read_descriptors(at, kMaxIndexEntries); });
  object.field("artifactType", out.artifact_type);
  object.with("subject", [&](const Node& at) { out.subject = read_descriptor(at); });
  object.field("annotations", out.annotations);
  return out;
}

/// Decides what the document is, by every sign it gives; signs that disagree are refused
/// (CVE-2021-41190: two readers of the same bytes would see two images).
Result<Shape> decide_shape(const Object& object, std::string_view content_type) {
  std::string own_type;
  object.field("mediaType", own_type);
  if (is_schema_one(own_type) || is_schema_one(content_type) || object.has("fsLayers")) {
    return schema_one();
  }
  object.require("schemaVersion");
  object.with("schemaVersion", [](const Node& at) {
    int64_t version = 0;
    read(at, version);
    if (version != 2) {
      at.expected("2");
    }
  });
  FLUYT_TRY(object.node().findings().take());
  if (!own_type.empty() && !says_nothing(content_type) && own_type != content_type) {
    return Error(Code::kInvalidArgument, cat("mediaType: ", quote(own_type), ": expected ",
                                             quote(content_type), ", as it was sent"));
  }
  const bool like_manifest = object.has("config") || object.has("layers");
  const bool like_index = object.has("manifests");
  if (like_manifest && like_index) {
    return Error(Code::kInvalidArgument,
                 "manifests beside config or layers: expected an index or a manifest, not both");
  }
  const std::string_view type = own_type.empty() ? content_type : std::string_view(own_type);
  if (says_nothing(type)) {
    return like_index ? Shape::kIndex : Shape::kManifest;
  }
  const Shape shape = shape_of(type);
  if (shape == Shape::kUnknown) {
    return Error(Code::kInvalidArgument,
                 cat("media type ", quote(type), ": expected an image manifest or index"));
  }
  if ((shape == Shape::kIndex && like_manifest) || (shape == Shape::kManifest && like_index)) {
    return Error(Code::kInvalidArgument,
                 cat("media type ", quote(type), " over ", like_index ? "an index" : "a manifest"));
  }
  return shape;
}

std::string_view without_parameters(std::string_view content_type) {
  return trim(content_type.substr(0, content_type.find(';')));
}

Ordered write_platform(const Platform& platform) {
  Ordered out = Ordered::object();
  out["architecture"] = platform.architecture;
  out["os"] = platform.os;
  json::put(out, "os.version", platform.os_version);
  json::put(out, "os.features", platform.os_features);
  json::put(out, "variant", platform.variant);
  return out;
}

Ordered write_descriptor(const Descriptor& descriptor) {
  Ordered out = Ordered::object();
  out["mediaType"] = descriptor.media_type;
  out["digest"] = descriptor.digest.text();
  out["size"] = descriptor.size;
  json::put(out, "urls", descriptor.urls);
  json::put(out, "annotations", descriptor.annotations);
  json::put(out, "data", encode_base64(descriptor.data));
  json::put(out, "platform", descriptor.platform, write_platform);
  json::put(out, "artifactType", descriptor.artifact_type);
  return out;
}

}  // namespace

Result<ManifestOrIndex> parse_manifest_or_index(std::string_view text,
                                                std::string_view content_type) {
  const Json document =
      FLUYT_TRY_CONTEXT(json::parse_text(text, kMaxManifestBytes), "image manifest");
  json::Findings findings;
  const Node root(document, findings);
  const Object object(root);
  FLUYT_TRY_CONTEXT(findings.take(), "image manifest");
  const Shape shape =
      FLUYT_TRY_CONTEXT(decide_shape(object, without_parameters(content_type)), "image manifest");
  ManifestOrIndex out;
  if (shape == Shape::kIndex) {
    out.index = read_index(root);
  } else {
    out.manifest = read_manifest(root);
  }
  FLUYT_TRY_CONTEXT(findings.take(), shape == Shape::kIndex ? "image index" : "image manifest");
  return out;
}

Result<Manifest> parse_manifest(std::string_view text) {
  ManifestOrIndex both = FLUYT_TRY(parse_manifest_or_index(text, ""));
  if (!both.manifest) {
    return Error(Code::kInvalidArgument, "an image index: expected an image manifest");
  }
  return std::move(*both.manifest);
}

Result<Index> parse_index(std::string_view text) {
  ManifestOrIndex both = FLUYT_TRY(parse_manifest_or_index(text, ""));
  if (!both.index) {
    return Error(Code::kInvalidArgument, "an image manifest: expected an image index");
  }
  return std::move(*both.index);
}

std::string to_json(const Manifest& manifest) {
  Ordered out = Ordered::object();
  out["schemaVersion"] = 2;
  json::put(out, "mediaType", manifest.media_type);
  json::put(out, "artifactType", manifest.artifact_type);
  out["config"] = write_descriptor(manifest.config);
  out["layers"] = Ordered::array();
  for (const Descriptor& layer : manifest.layers) {
    out["layers"].push_back(write_descriptor(layer));
  }
  json::put(out, "subject", manifest.subject, write_descriptor);
  json::put(out, "annotations", manifest.annotations);
  return json::text(out);
}

std::string to_json(const Index& index) {
  Ordered out = Ordered::object();
  out["schemaVersion"] = 2;
  json::put(out, "mediaType", index.media_type);
  json::put(out, "artifactType", index.artifact_type);
  out["manifests"] = Ordered::array();
  for (const Descriptor& entry : index.manifests) {
    out["manifests"].push_back(write_descriptor(entry));
  }
  json::put(out, "subject", index.subject, write_descriptor);
  json::put(out, "annotations", index.annotations);
  return json::text(out);
}

}  // namespace fluyt::oci
