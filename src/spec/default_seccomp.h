#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "oci/runtime_spec.h"

namespace fluyt::spec {

/// The profile of containers with RuntimeDefault: a list of what is allowed, everything else EPERM.
/// Calls that an unprivileged program needs are always on it; those guarded by a capability are
/// when `capabilities` (the bounding set, with the prefix) holds it; `architecture` is Go's name
/// ("amd64"), and adds the machine's own calls and its compatible ABIs.
oci::Seccomp default_seccomp(const std::vector<std::string>& capabilities,
                             std::string_view architecture);

}  // namespace fluyt::spec
