#pragma once

#include <cstdint>
#include <deque>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace fluyt::cli {

/// A line of a log in CRI's form: "2026-01-02T03:04:05.000000006Z stdout F text".
struct LogLine {
  int64_t time = 0;  // unix ns
  bool is_stderr = false;
  bool partial = false;  // tag P: the text goes on in the stream's next line
  std::string text;
  bool operator==(const LogLine&) const = default;
};
/// Nothing for what is not in that form (a torn line).
std::optional<LogLine> parse_log_line(std::string_view line);

/// Bytes in, whole lines out: puts partial lines of each stream together.
class LogReader {
 public:
  /// More bytes of the file; what is whole now is appended to `out`.
  void feed(std::string_view bytes, std::vector<LogLine>& out);
  /// The file has ended for good: gives what was left unfinished.
  void finish(std::vector<LogLine>& out);

 private:
  void take(std::string_view line, std::vector<LogLine>& out);
  std::string rest_;  // after the last newline
  LogLine unfinished_[2];
  bool has_unfinished_[2] = {false, false};
};

struct LogFilter {
  std::optional<size_t> tail;  // the last so many
  int64_t since = 0;           // unix ns
};
/// What is left of `lines`.
std::deque<LogLine> select(std::vector<LogLine> lines, const LogFilter& filter);

enum class Timestamps { kNone, kShown };
std::string format_log_line(const LogLine& line, Timestamps timestamps);

}  // namespace fluyt::cli
