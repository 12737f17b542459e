#include "stderr_log.h"

#include <spdlog/sinks/stdout_sinks.h>
#include <spdlog/spdlog.h>

namespace fluyt::daemon {
namespace {

spdlog::level::level_enum to_spdlog(LogLevel level) {
  switch (level) {
    case LogLevel::kTrace:
      return spdlog::level::trace;
    case LogLevel::kDebug:
      return spdlog::level::debug;
    case LogLevel::kInfo:
      return spdlog::level::info;
    case LogLevel::kWarn:
      return spdlog::level::warn;
    case LogLevel::kError:
      break;
  }
  return spdlog::level::err;
}

class StderrLogger final : public Logger {
 public:
  explicit StderrLogger(LogLevel level)
      : log_("fluytd", std::make_shared<spdlog::sinks::stderr_sink_mt>()) {
    log_.set_level(to_spdlog(level));
    log_.set_pattern("%Y-%m-%dT%H:%M:%S.%f %l %v");
  }
  bool enabled(LogLevel level) const override { return log_.should_log(to_spdlog(level)); }
  void write(LogLevel level, std::string_view text) override {
    // As an argument, never as the format: what is said may hold braces.
    log_.log(to_spdlog(level), "{}", text);
  }

 private:
  spdlog::logger log_;
};

}  // namespace

std::unique_ptr<Logger> make_stderr_logger(LogLevel level) {
  return std::make_unique<StderrLogger>(level);
}

}  // namespace fluyt::daemon
