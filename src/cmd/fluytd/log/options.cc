#include "cmd/fluytd/log/options.h"

#include "base/strings.h"

namespace fluyt::daemon {

std::string_view name_of(LogTarget target) {
  switch (target) {
    case LogTarget::kStderr:
      return "stderr";
    case LogTarget::kJournald:
      return "journald";
    case LogTarget::kFile:
      break;
  }
  return "file";
}

Result<LogTarget> parse_log_target(std::string_view name) {
  for (const auto target : {LogTarget::kStderr, LogTarget::kJournald, LogTarget::kFile}) {
    if (name_of(target) == name) return target;
  }
  return Error(Code::kInvalidArgument,
               cat(quote(name), R"(: expected "stderr", "journald" or "file")"));
}

std::string_view name_of(LogFormat format) { return format == LogFormat::kText ? "text" : "json"; }

Result<LogFormat> parse_log_format(std::string_view name) {
  if (name == "text") return LogFormat::kText;
  if (name == "json") return LogFormat::kJson;
  return Error(Code::kInvalidArgument, cat(quote(name), R"(: expected "text" or "json")"));
}

Result<> check_log_options(const LogOptions& options) {
  const auto wrong = [](std::string text) {
    return Error(Code::kInvalidArgument, std::move(text));
  };
  if (options.target == LogTarget::kFile && options.file.empty()) {
    return wrong("log_target: \"file\": expected log_file, the path, too");
  }
  if (options.target == LogTarget::kJournald && options.format == LogFormat::kJson) {
    return wrong("log_format: \"json\": expected \"text\" with journald, which has its own fields");
  }
  return {};
}

}  // namespace fluyt::daemon
