#include "image/policy/signatures.h"

#include <nlohmann/json.hpp>

#include "base/base64.h"
#include "base/strings.h"
#include "image/blob/hasher.h"
#include "image/policy/payload.h"
#include "sys/file.h"

namespace fluyt::image::policy {

namespace {

constexpr std::string_view kSigningType = "application/vnd.dev.cosign.simplesigning.v1+json";
constexpr const char* kSignatureArtifact = "application/vnd.dev.cosign.artifact.sig.v1+json";
constexpr std::string_view kBundlePrefix = "application/vnd.dev.sigstore.bundle";
constexpr const char* kSignatureAnnotation = "dev.cosignproject.cosign/signature";

// "signatures": [{"schemaVersion": 2, "type": "atomic", "content": base64}] of the extension.
Result<std::vector<std::string>> parse_extension(const std::string& text) {
  std::vector<std::string> out;
  const auto parsed = nlohmann::json::parse(text, nullptr, false);
  const auto wrong = [] {
    return Error(Code::kDataLoss, "signatures extension: expected {\"signatures\": [...]}");
  };
  if (parsed.is_discarded() || !parsed.is_object()) return wrong();
  const auto list = parsed.find("signatures");
  if (list == parsed.end() || list->is_null()) return out;
  if (!list->is_array()) return wrong();
  for (const auto& entry : *list) {
    if (!entry.is_object() || out.size() == kMaxSignatures) continue;
    const auto type = entry.find("type");
    const auto content = entry.find("content");
    if (type == entry.end() || *type != "atomic" || content == entry.end() ||
        !content->is_string()) {
      continue;  // of a kind that we do not know: it proves nothing
    }
    if (auto bytes = base64_decode(content->get_ref<const std::string&>())) {
      out.push_back(std::move(*bytes));
    }
  }
  return out;
}

}  // namespace

Result<> RegistrySignatures::add_attached(const std::string& target,
                                          std::vector<SigstoreSignature>& out) {
  const auto raw = FLUYT_TRY(session_.find_manifest(target));
  if (!raw.has_value()) return {};
  const auto parsed = oci::parse_manifest_or_index(raw->bytes, raw->media_type);
  if (!parsed.ok()) return Error(parsed.error()).add_context(target);
  if (!parsed->manifest.has_value()) return {};
  for (const oci::Descriptor& layer : parsed->manifest->layers) {
    const auto encoded = layer.annotations.find(kSignatureAnnotation);
    if (layer.media_type != kSigningType || encoded == layer.annotations.end()) continue;
    if (out.size() == kMaxSignatures) break;
    if (layer.size > static_cast<int64_t>(kMaxPayloadBytes)) continue;
    auto signature = base64_decode(encoded->second);
    if (!signature) continue;
    std::string payload = layer.data;
    if (payload.empty()) {
      FLUYT_TRY(session_.fetch_blob(layer.digest, static_cast<uint64_t>(layer.size),
                                    [&](std::string_view bytes) -> Result<> {
                                      payload += bytes;
                                      return {};
                                    }));
    }
    const oci::Digest computed = FLUYT_TRY(digest_of(layer.digest.algorithm(), payload));
    if (computed != layer.digest) {
      return Error(Code::kDataLoss,
                   cat("signature ", layer.digest.text(), ": the bytes are ", computed.text()));
    }
    out.push_back({std::move(payload), std::move(*signature)});
  }
  return {};
}

// The media type of a signature in the form that cosign writes from its third version on. It is
// for the error alone, so that trouble is none here.
std::string RegistrySignatures::find_bundle(const oci::Digest& manifest) {
  const auto referrers = session_.referrers(manifest, "");
  if (!referrers.ok()) return {};
  for (const oci::Descriptor& entry : *referrers) {
    if (entry.artifact_type.starts_with(kBundlePrefix)) return entry.artifact_type;
  }
  return {};
}

Result<SigstoreSignatures> RegistrySignatures::sigstore(const oci::Digest& manifest) {
  SigstoreSignatures out;
  // A server that refuses one of the places may let us have the other, and what was found stays
  // found. Who has found nothing yet and is let wait by all would be let wait each time.
  const auto go_on = [&](Result<> step) -> Result<> {
    if (step.ok()) return {};
    const bool all_hang = step.error().code() == Code::kDeadlineExceeded && session_.is_given_up();
    if (step.error().code() == Code::kCancelled || (all_hang && out.found.empty())) return step;
    if (!out.trouble.has_value()) out.trouble = std::move(step).error();
    return {};
  };
  const std::string tag = cat(manifest.algorithm(), "-", manifest.hex(), ".sig");
  FLUYT_TRY(go_on(add_attached(tag, out.found)));
  if (session_.is_given_up() && !out.found.empty()) return out;
  const auto referrers = session_.referrers(manifest, kSignatureArtifact);
  if (!referrers.ok()) {
    FLUYT_TRY(go_on(referrers.error()));
    return out;
  }
  for (const oci::Descriptor& entry : *referrers) {
    if (out.found.size() == kMaxSignatures || session_.is_given_up()) break;
    FLUYT_TRY(go_on(add_attached(entry.digest.text(), out.found)));
  }
  if (out.found.empty() && !out.trouble.has_value()) out.unread = find_bundle(manifest);
  return out;
}

Result<std::vector<std::string>> RegistrySignatures::from_lookaside(const std::string& base) {
  std::vector<std::string> out;
  for (size_t number = 1; number <= kMaxSignatures; ++number) {
    const std::string place = cat(base, "/signature-", number);
    if (place.starts_with("file://")) {
      auto bytes = sys::read_file(place.substr(7), kMaxSignatureBytes);
      if (!bytes.ok() && bytes.error().code() == Code::kNotFound) break;
      if (!bytes.ok()) return std::move(bytes).error().add_context(place);
      out.push_back(std::move(*bytes));
      continue;
    }
    auto bytes = session_.get_elsewhere(FLUYT_TRY(registry::Url::parse(place)), kMaxSignatureBytes);
    if (!bytes.ok()) return std::move(bytes).error();
    if (!bytes->has_value()) break;
    out.push_back(std::move(**bytes));
  }
  return out;
}

Result<std::vector<std::string>> RegistrySignatures::simple(const oci::Digest& manifest) {
  const std::string base = signatures_url(lookaside_, reference_, manifest);
  if (!base.empty()) return from_lookaside(base);
  auto text = session_.get_extension_signatures(manifest, kMaxSignatures * kMaxSignatureBytes);
  if (!text.ok()) return std::move(text).error();
  if (!text->has_value()) return std::vector<std::string>();
  return parse_extension(**text);
}

}  // namespace fluyt::image::policy
