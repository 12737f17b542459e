#pragma once

#include <cstdint>
#include <string>

#include "base/result.h"
#include "sys/fd.h"

namespace fluyt::streaming {

/// Connects to `port` of 127.0.0.1, then of ::1, in the network namespace whose file is `netns`
/// (empty: ours). Blocks for some seconds at most. The socket belongs to that namespace, from
/// whichever thread it is used; only a thread made for it ever enters the namespace.
Result<sys::Fd> dial(const std::string& netns, uint16_t port);

}  // namespace fluyt::streaming
