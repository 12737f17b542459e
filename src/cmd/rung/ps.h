#pragma once

#include <string>
#include <vector>

#include "base/result.h"
#include "guest/sandbox/processes.h"

namespace fluyt::rung {

/// As ps(1) prints them with `options`: -ef, aux, or -o with names of columns (docs/rung.md).
/// Nothing is -ef. `now_s` is of CLOCK_REALTIME. kInvalidArgument: other options or columns.
Result<std::string> print_processes(const std::vector<guest::ProcessRow>& rows,
                                    const std::vector<std::string>& options, int64_t now_s);

}  // namespace fluyt::rung
