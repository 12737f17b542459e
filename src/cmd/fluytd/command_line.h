#pragma once

#include <string>

#include "cmd/fluytd/config/load.h"

namespace fluyt::daemon {

struct CommandLine {
  enum class Verb {
    kServe,
    kConfigDefault,
    kConfigCheck,
    kConfigDump,
    kDone,   // --help, --version: it has been printed
    kUsage,  // wrong usage: it has been said on standard error
  } verb = Verb::kServe;
  Invocation invocation;
};

/// Flags become values of the keys that they stand for.
CommandLine parse_command_line(int argc, char** argv);

}  // namespace fluyt::daemon
