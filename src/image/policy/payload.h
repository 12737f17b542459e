#pragma once

#include <string>
#include <string_view>

#include "base/result.h"
#include "oci/digest.h"

namespace fluyt::image::policy {

/// What a signature claims (containers' "simple signing", which cosign signs too).
struct Payload {
  oci::Digest digest;  // of the manifest
  std::string name;    // docker-reference
};

inline constexpr size_t kMaxPayloadBytes = 64UL << 10U;

enum class PayloadType { kAtomic, kCosign };
/// Parses {"critical": {"type", "image": {"docker-manifest-digest"}, "identity":
/// {"docker-reference"}}, "optional"}. A field more, less or twice in `critical` is
/// kInvalidArgument: whoever signed it may have meant a condition that we do not know.
Result<Payload> parse_payload(std::string_view json, PayloadType type);

}  // namespace fluyt::image::policy
