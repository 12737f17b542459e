#include "cmd/fluyt/text/log_line.h"

#include "base/strings.h"
#include "base/time.h"

namespace fluyt::cli {

namespace {
// A line that never ends is given out in pieces of this size, so that no log fills our memory.
constexpr size_t kMaxLine = 1U << 20U;

std::string_view take_word(std::string_view& text) {
  const size_t end = text.find(' ');
  const std::string_view word = text.substr(0, end);
  text.remove_prefix(end == std::string_view::npos ? text.size() : end + 1);
  return word;
}
}  // namespace

std::optional<LogLine> parse_log_line(std::string_view line) {
  LogLine out;
  const auto time = parse_rfc3339(take_word(line));
  const std::string_view stream = take_word(line);
  const std::string_view tags = take_word(line);
  if (!time.ok() || (stream != "stdout" && stream != "stderr") || tags.empty()) return std::nullopt;
  // Tags are separated by colons; the first one is P or F.
  const std::string_view tag = split(tags, ':')[0];
  if (tag != "P" && tag != "F") return std::nullopt;
  out.time = *time;
  out.is_stderr = stream == "stderr";
  out.partial = tag == "P";
  out.text = line;
  return out;
}

void LogReader::take(std::string_view line, std::vector<LogLine>& out) {
  auto parsed = parse_log_line(line);
  if (!parsed) return;
  const size_t stream = parsed->is_stderr ? 1 : 0;
  LogLine& unfinished = unfinished_[stream];
  if (!has_unfinished_[stream]) {
    unfinished = std::move(*parsed);
  } else {
    unfinished.text += parsed->text;
    unfinished.partial = parsed->partial;
  }
  has_unfinished_[stream] = unfinished.partial && unfinished.text.size() < kMaxLine;
  if (!has_unfinished_[stream]) out.push_back(std::move(unfinished));
}

void LogReader::feed(std::string_view bytes, std::vector<LogLine>& out) {
  while (true) {
    const size_t end = bytes.find('\n');
    if (end == std::string_view::npos) break;
    if (rest_.empty()) {
      take(bytes.substr(0, end), out);
    } else {
      rest_ += bytes.substr(0, end);
      take(rest_, out);
      rest_.clear();
    }
    bytes.remove_prefix(end + 1);
  }
  if (rest_.size() < kMaxLine) rest_ += bytes;
}

void LogReader::finish(std::vector<LogLine>& out) {
  rest_.clear();
  for (size_t stream = 0; stream < 2; ++stream) {
    if (has_unfinished_[stream]) out.push_back(std::move(unfinished_[stream]));
    has_unfinished_[stream] = false;
  }
}

std::deque<LogLine> select(std::vector<LogLine> lines, const LogFilter& filter) {
  std::deque<LogLine> out;
  for (LogLine& line : lines) {
    if (line.time < filter.since) continue;
    out.push_back(std::move(line));
    if (filter.tail && out.size() > *filter.tail) out.pop_front();
  }
  return out;
}

std::string format_log_line(const LogLine& line, Timestamps timestamps) {
  // A piece of a line that is not at its end gets no newline.
  const char* end = line.partial ? "" : "\n";
  if (timestamps == Timestamps::kNone) return cat(line.text, end);
  return cat(format_rfc3339_nano(line.time), " ", line.text, end);
}

}  // namespace fluyt::cli
