#pragma once

#include <string_view>

#include "base/result.h"

namespace fluyt::oci {

/// An annotation of that document, ours: the containers of a pod are to have a sandbox's container
/// (io.kubernetes.cri.container-type: sandbox), with whose processes they have something in common.
inline constexpr const char* kSandboxContainerFeature = "dev.fluyt.sandbox-container";

/// What an engine asks of the "features" document of a runtime (runtime-spec, features.md).
struct RuntimeFeatures {
  bool recursive_readonly_mounts = false;  // the mount option "rro"
  bool idmapped_mounts = false;            // linux.mountExtensions.idmap.enabled
  bool user_namespaces = false;            // linux.namespaces has "user", and idmapped mounts
  bool sandbox_container = false;          // annotations has kSandboxContainerFeature: "true"
  bool operator==(const RuntimeFeatures&) const = default;
};

inline constexpr size_t kMaxFeaturesBytes = 1UL << 20U;

/// What is left out is not there; what has another type than the specification says is
/// kInvalidArgument and names the field.
Result<RuntimeFeatures> parse_runtime_features(std::string_view json);

}  // namespace fluyt::oci
