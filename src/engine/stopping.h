#pragma once

#include <string_view>

namespace fluyt::engine {

/// A ready sandbox's `reason` once its stop has begun to take things away: should we end within it,
/// the next start finishes it, and nobody is told that the sandbox is ready.
inline constexpr std::string_view kStopping = "Stopping";

}  // namespace fluyt::engine
