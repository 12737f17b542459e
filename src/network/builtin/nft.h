#pragma once

#include <string>
#include <string_view>

#include "base/result.h"

namespace fluyt::network {

/// Carries out commands of nft(8), all of them or none, by libnftables in the network namespace of
/// this thread, and gives what they print, as JSON. Errors quote what the library said. Calls at
/// the same time are the caller's to keep apart.
Result<std::string> run_nft(std::string_view commands);

}  // namespace fluyt::network
