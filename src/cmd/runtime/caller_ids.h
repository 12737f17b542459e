#pragma once

#include <cstdint>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "oci/runtime_spec.h"
#include "sys/id_range.h"

/// The ids of a caller without privileges: its own, and those that /etc/subuid and /etc/subgid give
/// it, which newuidmap(1) and newgidmap(1) put into a user namespace.
namespace fluyt::commands {

/// What a namespace of the caller's own is to know of `mappings`: there 0 is the caller's `own` id,
/// and the others follow. `mappings` is in those ids then. kInvalidArgument: more than there are.
Result<std::vector<sys::IdRange>> take_over(std::vector<oci::IdMapping>& mappings, uint32_t own);

/// Ends up as root of a new user namespace that knows these ids, with mounts of its own. Without
/// any but the caller's own no program is asked. An error names the specification's field.
Result<> become_root_with(const std::vector<sys::IdRange>& uids,
                          const std::vector<sys::IdRange>& gids);

}  // namespace fluyt::commands
