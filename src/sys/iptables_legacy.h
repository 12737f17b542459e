#pragma once

#include <cstdint>

#include "base/result.h"

namespace fluyt::sys {

/// Whether the chain FORWARD of iptables' own table `filter` (that of ip_tables, which nftables
/// does not show) has the policy drop, in the network namespace of this thread. A table that nobody
/// has made is not made by looking.
Result<bool> legacy_forward_drops(uint8_t family);

}  // namespace fluyt::sys
