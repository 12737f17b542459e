#pragma once

#include <cstdint>
#include <vector>

namespace fluyt::sys {

/// A line of uid_map or gid_map: `count` ids from `inside` on are those from `outside` on.
struct IdRange {
  uint32_t inside = 0;
  uint32_t outside = 0;
  uint32_t count = 0;
  bool operator==(const IdRange&) const = default;
};

/// The ids of a user namespace: both lists, or neither for the ids as they are.
struct IdMaps {
  std::vector<IdRange> uids;
  std::vector<IdRange> gids;
  bool empty() const { return uids.empty() && gids.empty(); }
  bool operator==(const IdMaps&) const = default;
};

}  // namespace fluyt::sys
