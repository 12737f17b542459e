#pragma once

#include <string>
#include <vector>

#include "base/result.h"
#include "cmd/runtime/options.h"
#include "runtime/checkpoint/checkpoint.h"

namespace fluyt::commands {

/// The options that checkpoint and restore share, as runc has them.
struct CriuOptions {
  runtime::checkpoint::Settings settings;
  std::string cgroups_mode;
  std::string page_server;
  std::vector<std::string> empty_namespaces;
  int status_fd = -1;
};
std::vector<Option> criu_options(CriuOptions& o);
/// Checks what was given and fills in the settings.
Result<> read_criu_options(CriuOptions& o);

}  // namespace fluyt::commands
