#pragma once

#include "cmd/fluyt/command.h"

namespace fluyt::cli {

/// The one command that is about the host and not about fluytd.
CommandInfo check_command();

}  // namespace fluyt::cli
