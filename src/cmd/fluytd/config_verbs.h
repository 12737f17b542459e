#pragma once

#include "cmd/fluytd/config/load.h"

namespace fluyt::daemon {

// `fluytd config default|check|dump`: each prints and returns the exit status, 0 or 1.

int print_default_config();
/// Everything that is wrong, a line each on standard error.
int check_config(const Invocation& invocation);
int dump_config(const Invocation& invocation);

}  // namespace fluyt::daemon
