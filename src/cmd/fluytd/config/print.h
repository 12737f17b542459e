#pragma once

#include <string>

#include "cmd/fluytd/config/load.h"

namespace fluyt::daemon {

/// Every key with what it is about and its default, as a file that says nothing but defaults.
std::string default_config();
/// What is in force, each value with where it came from; passwords and tokens are left out. A
/// configuration again, but for those.
std::string dump(const Config& config);

}  // namespace fluyt::daemon
