#pragma once

#include <vector>

#include "base/result.h"
#include "cmd/fluytd/config/settings.h"

namespace fluyt::daemon {

/// Fills in the helper programs, and checks that they are there, and those of the runtime handlers.
/// What is wrong, each beginning with its key.
std::vector<Error> find_programs(Settings& settings);

}  // namespace fluyt::daemon
