#pragma once

#include <cstddef>
#include <string>
#include <string_view>

#include "base/log.h"
#include "base/result.h"

namespace fluyt::daemon {

enum class LogTarget { kStderr, kJournald, kFile };
std::string_view name_of(LogTarget target);  // "stderr", "journald", "file"
Result<LogTarget> parse_log_target(std::string_view name);

enum class LogFormat { kText, kJson };
std::string_view name_of(LogFormat format);  // "text", "json"
Result<LogFormat> parse_log_format(std::string_view name);

struct LogOptions {
  LogLevel level = LogLevel::kInfo;
  LogFormat format = LogFormat::kText;
  LogTarget target = LogTarget::kStderr;
  std::string file;                 // with kFile
  size_t max_bytes = 100UL << 20U;  // of the file; then it is renamed to file.1; 0: never
  size_t keep = 5;                  // renamed files; the oldest goes
  std::string journal_socket = "/run/systemd/journal/socket";
};

/// What contradicts itself. Errors begin with the key.
Result<> check_log_options(const LogOptions& options);

}  // namespace fluyt::daemon
