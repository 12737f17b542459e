#include "cmd/fluytd/log/log.h"

#include <spdlog/sinks/basic_file_sink.h>
#include <spdlog/sinks/rotating_file_sink.h>
#include <spdlog/sinks/stdout_sinks.h>
#include <spdlog/spdlog.h>

#include <nlohmann/json.hpp>

#include "base/log_levels.h"
#include "base/strings.h"
#include "base/time.h"
#include "cmd/fluytd/log/journal_sink.h"

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

Result<spdlog::sink_ptr> make_file_sink(const LogOptions& options) {
  try {
    if (options.max_bytes == 0) {
      return spdlog::sink_ptr(std::make_shared<spdlog::sinks::basic_file_sink_mt>(options.file));
    }
    return spdlog::sink_ptr(std::make_shared<spdlog::sinks::rotating_file_sink_mt>(
        options.file, options.max_bytes, options.keep));
  } catch (const spdlog::spdlog_ex& failed) {
    return Error(Code::kUnavailable, cat("log_file: ", failed.what()));
  }
}

Result<spdlog::sink_ptr> make_sink(const LogOptions& options) {
  switch (options.target) {
    case LogTarget::kStderr:
      return spdlog::sink_ptr(std::make_shared<spdlog::sinks::stderr_sink_mt>());
    case LogTarget::kJournald:
      return FLUYT_TRY_CONTEXT(make_journal_sink(options.journal_socket), "log_target: journald");
    case LogTarget::kFile:
      break;
  }
  return make_file_sink(options);
}

std::string json_line(LogLevel level, std::string_view text) {
  const nlohmann::ordered_json line = {{"time", format_rfc3339_nano(now_unix_ns())},
                                       {"level", log_level_name(level)},
                                       {"message", text}};
  return line.dump(-1, ' ', false, nlohmann::json::error_handler_t::replace);
}

}  // namespace

Result<Log::Writer> Log::make_writer(const LogOptions& options, const Lost& lost) {
  FLUYT_TRY(check_log_options(options));
  auto to = std::make_shared<spdlog::logger>("fluytd", FLUYT_TRY(make_sink(options)));
  to->set_level(spdlog::level::trace);  // what is told is decided before
  const bool is_whole =
      options.format == LogFormat::kJson || options.target == LogTarget::kJournald;
  to->set_pattern(is_whole ? "%v" : "%Y-%m-%dT%H:%M:%S.%f %l %v");
  to->set_error_handler([lost](const std::string& /*why*/) { ++*lost; });
  // A file's buffer would go with us when we are killed.
  to->flush_on(spdlog::level::trace);
  return Writer{std::move(to), options.format};
}

Result<std::unique_ptr<Log>> Log::open(const LogOptions& options) {
  auto lost = std::make_shared<std::atomic<uint64_t>>(0);
  Writer writer = FLUYT_TRY(make_writer(options, lost));
  return std::unique_ptr<Log>(new Log(std::move(writer), options.level, std::move(lost)));
}

Log::Log(Writer writer, LogLevel level, Lost lost)
    : level_(level),
      lost_(std::move(lost)),
      writer_(std::make_shared<const Writer>(std::move(writer))) {}

Log::~Log() = default;

Result<std::function<void()>> Log::prepare(const LogOptions& options) {
  auto next = std::make_shared<const Writer>(FLUYT_TRY(make_writer(options, lost_)));
  return std::function<void()>([this, next, level = options.level] {
    *writer_.lock() = next;
    level_ = level;
  });
}

void Log::write(LogLevel level, std::string_view text) {
  const std::shared_ptr<const Writer> writer = *writer_.lock();
  // As an argument, never as the format: what is said may hold braces.
  if (writer->format == LogFormat::kJson) {
    writer->to->log(to_spdlog(level), "{}", json_line(level, text));
  } else {
    writer->to->log(to_spdlog(level), "{}", text);
  }
}

}  // namespace fluyt::daemon
