#include "base/log_levels.h"

#include <array>
#include <utility>

#include "base/strings.h"

namespace fluyt {
namespace {

constexpr std::array<std::pair<LogLevel, std::string_view>, 5> kNames = {
    {{LogLevel::kTrace, "trace"},
     {LogLevel::kDebug, "debug"},
     {LogLevel::kInfo, "info"},
     {LogLevel::kWarn, "warn"},
     {LogLevel::kError, "error"}}};

}  // namespace

std::string_view log_level_name(LogLevel level) {
  for (const auto& [known, name] : kNames) {
    if (known == level) return name;
  }
  return "";
}

Result<LogLevel> parse_log_level(std::string_view name) {
  for (const auto& [level, known] : kNames) {
    if (known == name) return level;
  }
  return Error(Code::kInvalidArgument,
               cat(quote(name), ": expected trace, debug, info, warn or error"));
}

}  // namespace fluyt
