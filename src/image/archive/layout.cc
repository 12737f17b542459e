#include <algorithm>
#include <nlohmann/json.hpp>

#include "base/strings.h"
#include "image/archive/archive.h"
#include "image/blob/hasher.h"
#include "sys/file.h"

namespace fluyt::image::archive {

namespace {

constexpr size_t kMaxLayoutBytes = 4096;
constexpr size_t kMaxTotalBytes = 8 * oci::kMaxManifestBytes;  // of all manifests, in memory
constexpr size_t kMaxEntriesOfOne = 256;  // without names: each is read to tell
constexpr const char* kContainerdName = "io.containerd.image.name";
constexpr const char* kRefName = "org.opencontainers.image.ref.name";

Result<std::string> read_member(const Members& members, const std::string& name, size_t limit) {
  const sys::Fd fd = FLUYT_TRY(members.open(name));
  return FLUYT_TRY_CONTEXT(sys::read_all(fd, limit), name);
}

// image-spec image-layout.md: {"imageLayoutVersion": "1.0.0"}.
Result<> check_version(std::string_view text) {
  const auto json = nlohmann::json::parse(text, nullptr, false);
  const auto version = json.is_object() ? json.find("imageLayoutVersion") : json.end();
  if (!json.is_object() || version == json.end() || !version->is_string()) {
    return Error(Code::kInvalidArgument, "oci-layout: imageLayoutVersion: expected a string");
  }
  const auto value = version->get<std::string>();
  if (!value.starts_with("1.")) {
    return Error(Code::kInvalidArgument,
                 cat("oci-layout: imageLayoutVersion: ", quote(value), ": expected 1.0.0"));
  }
  return {};
}

// A ref.name is whole, such as "busybox:1" or "docker.io/library/busybox:1", or just a tag, which
// names nothing by itself.
std::vector<std::string> names_of(const oci::Descriptor& entry) {
  if (const auto name = entry.annotations.find(kContainerdName); name != entry.annotations.end()) {
    return {name->second};
  }
  const auto name = entry.annotations.find(kRefName);
  if (name == entry.annotations.end() || name->second.find_first_of(":/") == std::string::npos) {
    return {};
  }
  return {name->second};
}

bool has_ref_name(const oci::Descriptor& entry) {
  return entry.annotations.contains(kContainerdName) || entry.annotations.contains(kRefName);
}

// What an image says of how it was made; for no platform.
bool is_attestation(const oci::Descriptor& entry) {
  return entry.platform && entry.platform->os == "unknown";
}

}  // namespace

Archive::Entry Archive::look_at(const oci::Descriptor& entry) const {
  Entry out;
  if (entry.platform) out.platform = entry.platform->text();
  const auto bytes = read(entry);
  const auto parsed = bytes.ok() ? oci::parse_manifest_or_index(*bytes, "")
                                 : Result<oci::ManifestOrIndex>(bytes.error());
  if (!parsed.ok()) return out;
  out.is_index = parsed->index.has_value();
  if (!parsed->manifest) return out;
  out.config = parsed->manifest->config.digest;
  if (entry.platform) return out;
  const auto fd = members_->open(member_of(*out.config));
  const auto text =
      fd.ok() ? sys::read_all(*fd, oci::kMaxConfigBytes) : Result<std::string>(fd.error());
  const auto config =
      text.ok() ? oci::parse_image_config(*text) : Result<oci::ImageConfig>(text.error());
  if (config.ok() && !config->platform.os.empty()) out.platform = config->platform.text();
  return out;
}

// Several entries without names are one image for several platforms, if no two images are for one
// platform. One config is one image, however its layers are compressed; what is for no platform is
// about the image, such as a signature. An index is an image by itself.
bool Archive::are_one_image(const std::vector<oci::Descriptor>& entries) const {
  std::map<std::string, oci::Digest> configs;  // by platform
  std::set<oci::Digest> seen;
  if (entries.size() > kMaxEntriesOfOne) return false;
  for (const oci::Descriptor& entry : entries) {
    if (is_attestation(entry) || !seen.insert(entry.digest).second) continue;
    const Entry found = look_at(entry);
    if (found.is_index && found.platform.empty()) return false;
    if (found.platform.empty() || !found.config) continue;
    const auto [known, is_new] = configs.emplace(found.platform, *found.config);
    if (!is_new && known->second != *found.config) return false;
  }
  return seen.size() > 1;
}

Result<> Archive::load_layout(size_t listed) {
  FLUYT_TRY(check_version(FLUYT_TRY(read_member(*members_, "oci-layout", kMaxLayoutBytes))));
  const std::string text = FLUYT_TRY(read_member(*members_, "index.json", oci::kMaxManifestBytes));
  const oci::Index index = FLUYT_TRY_CONTEXT(oci::parse_index(text), "index.json");
  if (index.manifests.empty()) {
    return Error(Code::kInvalidArgument, "index.json: manifests: expected at least one");
  }
  const auto& entries = index.manifests;
  const bool has_names = std::any_of(entries.begin(), entries.end(), has_ref_name);
  if (!has_names && listed < 2 && are_one_image(entries)) {  // which has no name
    images_.push_back({{},
                       FLUYT_TRY(digest_of("sha256", text)),
                       std::string(oci::media_type::kOciIndex),
                       text,
                       true});
    return {};
  }
  size_t total = 0;
  for (const oci::Descriptor& entry : entries) {
    if (is_attestation(entry)) continue;
    const auto same = std::find_if(images_.begin(), images_.end(),
                                   [&](const auto& image) { return image.digest == entry.digest; });
    if (same != images_.end()) {  // another name of it
      for (std::string& name : names_of(entry)) same->names.push_back(std::move(name));
      continue;
    }
    std::string bytes = FLUYT_TRY(read(entry));
    total += bytes.size();
    if (total > kMaxTotalBytes) {
      return Error(Code::kResourceExhausted,
                   cat("index.json: manifests of more than ", kMaxTotalBytes, " bytes"));
    }
    oci::Digest computed = FLUYT_TRY(digest_of(entry.digest.algorithm(), bytes));
    if (computed != entry.digest) {
      return Error(Code::kDataLoss, cat("manifest: the bytes are ", computed.text(), ", expected ",
                                        entry.digest.text()));
    }
    images_.push_back(
        {names_of(entry), std::move(computed), entry.media_type, std::move(bytes), true});
  }
  return {};
}

}  // namespace fluyt::image::archive
