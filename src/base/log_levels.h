#pragma once

#include <string_view>

#include "base/log.h"
#include "base/result.h"

namespace fluyt {

/// "trace", "debug", "info", "warn", "error".
std::string_view log_level_name(LogLevel level);
/// kInvalidArgument lists them.
Result<LogLevel> parse_log_level(std::string_view name);

}  // namespace fluyt
