#include "cmd/runtime/log.h"

#include <fcntl.h>
#include <unistd.h>

#include "base/strings.h"
#include "base/time.h"
#include "sys/file.h"

namespace fluyt::commands {

namespace {

std::string_view level_name(LogLevel level) {
  switch (level) {
    case LogLevel::kTrace:
      return "trace";
    case LogLevel::kDebug:
      return "debug";
    case LogLevel::kInfo:
      return "info";
    case LogLevel::kWarn:
      return "warning";
    case LogLevel::kError:
      break;
  }
  return "error";
}

// A JSON string; bytes that are not UTF-8 become '?'.
std::string json_string(std::string_view text) {
  constexpr std::string_view kDigits = "0123456789abcdef";
  const bool clean = is_utf8(text);
  std::string out = "\"";
  for (const char c : text) {
    const auto byte = static_cast<unsigned char>(c);
    if (c == '"' || c == '\\') {
      out += '\\';
      out += c;
    } else if (c == '\n') {
      out += "\\n";
    } else if (byte < 0x20) {
      out += cat("\\u00", kDigits[byte >> 4U], kDigits[byte & 15U]);
    } else if (byte >= 0x80 && !clean) {
      out += '?';
    } else {
      out += c;
    }
  }
  return out + '"';
}

}  // namespace

Result<> Log::open(const std::string& path, Format format, bool debug) {
  format_ = format;
  if (debug) lowest_ = LogLevel::kDebug;
  if (path.empty()) return {};
  // Under whatever number is free: it is close-on-exec, and what --preserve-fds speaks of is not.
  file_ = FLUYT_TRY_CONTEXT(sys::open(path, O_WRONLY | O_CREAT | O_APPEND, 0644), "option --log");
  return {};
}

void Log::write(LogLevel level, std::string_view text) {
  std::string time = format_rfc3339_nano(now_unix_ns());
  time = cat(time.substr(0, 19), "Z");
  const std::string line =
      format_ == Format::kJson
          ? cat("{\"level\":\"", level_name(level), "\",\"msg\":", json_string(text),
                ",\"time\":\"", time, "\"}\n")
          : cat("time=\"", time, "\" level=", level_name(level), " msg=", json_string(text), "\n");
  sys::write_all(file_.valid() ? file_.ref() : sys::FdRef(STDERR_FILENO), line)
      .ignore("nowhere to tell");
}

void Log::fail(const Error& why) {
  write(LogLevel::kError, why.message());
  if (file_.valid()) {
    sys::write_all(sys::FdRef(STDERR_FILENO), cat(why.message(), "\n")).ignore("nowhere to tell");
  }
}

void Log::fail_program(std::string_view why) {
  if (file_.valid()) write(LogLevel::kError, why);
  sys::write_all(sys::FdRef(STDERR_FILENO), cat(why, "\n")).ignore("nowhere to tell");
}

}  // namespace fluyt::commands
