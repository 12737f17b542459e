#pragma once

#include <memory>

#include "base/log.h"

namespace fluyt::daemon {

/// Lines on standard error with time and level, for a service manager's journal.
std::unique_ptr<Logger> make_stderr_logger(LogLevel level);

}  // namespace fluyt::daemon
