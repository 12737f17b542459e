#pragma once

#include <atomic>
#include <cstdint>
#include <functional>
#include <memory>

#include "base/guarded.h"
#include "base/log.h"
#include "cmd/fluytd/log/options.h"

namespace spdlog {
class logger;
}

namespace fluyt::daemon {

/// fluytd's log. Where it goes and how much of it there is may change at any time; a line goes
/// whole to one place. What cannot be written is counted, and nobody waits for it.
class Log final : public Logger {
 public:
  /// Errors name the key.
  static Result<std::unique_ptr<Log>> open(const LogOptions& options);
  ~Log() override;
  /// Opens what is asked for, a file that was moved away by its name again. What it returns puts it
  /// in force, and cannot fail.
  Result<std::function<void()>> prepare(const LogOptions& options);

  LogLevel level() const { return level_; }
  void set_level(LogLevel level) { level_ = level; }
  /// Lines that could not be written.
  uint64_t lost() const { return *lost_; }

  bool enabled(LogLevel level) const override { return level >= level_; }
  void write(LogLevel level, std::string_view text) override;

 private:
  struct Writer {
    std::shared_ptr<spdlog::logger> to;
    LogFormat format;
  };
  using Lost = std::shared_ptr<std::atomic<uint64_t>>;
  static Result<Writer> make_writer(const LogOptions& options, const Lost& lost);
  Log(Writer writer, LogLevel level, Lost lost);

  std::atomic<LogLevel> level_;
  Lost lost_;
  Guarded<std::shared_ptr<const Writer>> writer_;
};

}  // namespace fluyt::daemon
