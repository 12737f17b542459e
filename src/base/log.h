#pragma once

#include <string>
#include <string_view>

namespace fluyt {

enum class LogLevel { kTrace, kDebug, kInfo, kWarn, kError };

/// Where a part says what it did. Passed down from `main`; there is no global logger. Calls may
/// come from any thread. A function returns its error or logs it, never both.
class Logger {
 public:
  Logger() = default;
  Logger(const Logger&) = delete;
  Logger& operator=(const Logger&) = delete;
  virtual ~Logger() = default;
  virtual bool enabled(LogLevel level) const = 0;
  virtual void write(LogLevel level, std::string_view text) = 0;

  void debug(std::string_view text) { write_if(LogLevel::kDebug, text); }
  void info(std::string_view text) { write_if(LogLevel::kInfo, text); }
  void warn(std::string_view text) { write_if(LogLevel::kWarn, text); }
  void error(std::string_view text) { write_if(LogLevel::kError, text); }

 private:
  void write_if(LogLevel level, std::string_view text) {
    if (enabled(level)) write(level, text);
  }
};

/// Drops everything: for tests and for programs that report only through their exit.
class NullLogger final : public Logger {
 public:
  bool enabled(LogLevel /*level*/) const override { return false; }
  void write(LogLevel /*level*/, std::string_view /*text*/) override {}
};

}  // namespace fluyt
