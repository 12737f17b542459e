#pragma once

#include <cstdint>

#include "base/result.h"

namespace fluyt::sys {

/// Makes the kernel forget the flows of `family` (AF_INET, AF_INET6) and `protocol` (IPPROTO_UDP)
/// that were sent to `port`, in the network namespace of this thread: their next packet is looked
/// at by the rules again. What comes and goes meanwhile may be missed.
Result<> forget_flows(uint8_t family, uint8_t protocol, uint16_t port);

}  // namespace fluyt::sys
