#pragma once

#include <cstdint>
#include <string_view>

#include "base/result.h"

namespace fluyt::commands {

/// A time as Go's programs write it: numbers with units, "1m30s", "1.5s", "100ms". In milliseconds,
/// rounded up. At most a year.
Result<int64_t> parse_duration_ms(std::string_view text);

}  // namespace fluyt::commands
