#pragma once

#include <string>

#include "cmd/fluyt/client.h"

/// Where containers of `fluyt run` log: a folder each below the one that fluytd names.
namespace fluyt::cli {

std::string run_log_folder(const control::InfoResponse& info, const std::string& uid);

/// Removes the folder of a log, when it is one of ours: below fluytd's folder for logs and nowhere
/// else. A log on another host, or already removed, is success.
Result<> remove_run_log(const control::InfoResponse& info, const std::string& log_path);

}  // namespace fluyt::cli
