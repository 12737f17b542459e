#pragma once

#include <string>
#include <string_view>

#include "base/log.h"
#include "base/result.h"
#include "sys/fd.h"

namespace fluyt::commands {

/// Log lines in the two shapes that callers of runc read: logrus' text, and JSON objects with
/// level, msg and time. To standard error, or to --log's file.
class Log final : public Logger {
 public:
  enum class Format { kText, kJson };
  Result<> open(const std::string& path, Format format, bool debug);
  bool enabled(LogLevel level) const override { return level >= lowest_; }
  void write(LogLevel level, std::string_view text) override;
  /// The error that ends the command: logged, and shown on standard error if the log is elsewhere.
  void fail(const Error& why);
  /// What kept the program from being executed: on standard error a bare line, as from a shell.
  void fail_program(std::string_view why);

 private:
  sys::Fd file_;
  Format format_ = Format::kText;
  LogLevel lowest_ = LogLevel::kInfo;
};

}  // namespace fluyt::commands
