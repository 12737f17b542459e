#pragma once

#include <cstdint>
#include <optional>
#include <string_view>

#include "base/result.h"
#include "oci/runtime_spec.h"

namespace fluyt::monitor {

/// What mounts and unmounts below a mount go through (mount_namespaces(7)).
struct PeerGroup {
  bool shared = false;     // both ways
  bool slave = false;      // from its master
  std::string_view point;  // escaped, as mountinfo has it
};
/// Of the mount with this id. Pure; none where `mountinfo` does not have it.
std::optional<PeerGroup> find_peer_group(std::string_view mountinfo, uint64_t mount_id);

/// What a bind mount is to get from the host (rslave), or to give back too (rshared), must come
/// through the mount that its source lies on: of a private one nothing would ever come, silently.
/// kFailedPrecondition names the mount. A source that is missing is left to who mounts it. Looks at
/// the sources, whose file systems may hang.
Result<> check_propagation(const oci::Spec& spec);

}  // namespace fluyt::monitor
