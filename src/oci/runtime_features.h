#pragma once

#include <string_view>

#include "base/result.h"

namespace fluyt::oci {

/// What an engine asks of the "features" document of a runtime (runtime-spec, features.md).
struct RuntimeFeatures {
  bool recursive_readonly_mounts = false;  // the mount option "rro"
  bool idmapped_mounts = false;            // linux.mountExtensions.idmap.enabled
  bool user_namespaces = false;            // linux.namespaces has "user", and idmapped mounts
  bool operator==(const RuntimeFeatures&) const = default;
};

inline constexpr size_t kMaxFeaturesBytes = 1UL << 20U;

/// What is left out is not there; what has another type than the specification says is
/// kInvalidArgument and names the field.
Result<RuntimeFeatures> parse_runtime_features(std::string_view json);

}  // namespace fluyt::oci
