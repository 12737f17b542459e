#pragma once

#include <optional>
#include <string_view>

namespace fluyt {

/// "SIGTERM", "TERM", "15", "SIGRTMIN+3" (as images and people write them) to the number on this
/// kernel, 1 to 64.
std::optional<int> signal_number(std::string_view name);

}  // namespace fluyt
