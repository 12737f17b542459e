#include "monitor/program/log.h"

#include <algorithm>
#include <nlohmann/json.hpp>
#include <vector>

#include "base/strings.h"

namespace fluyt::monitor {

namespace {

std::string plain(std::string_view text) {
  std::string out(trim(text.substr(0, kMaxLogWordsBytes)));
  if (!is_utf8(out)) std::erase_if(out, [](char c) { return (c & '\x80') != 0; });
  for (char& c : out) {
    if (static_cast<unsigned char>(c) < ' ' || c == '\x7f') c = ' ';
  }
  return out;
}

struct Line {
  std::string words;
  bool is_error = false;
};

// A line that is no JSON is what the program printed before it knew of --log-format.
Line read_line(std::string_view line) {
  const auto json = nlohmann::json::parse(line, nullptr, false);
  if (!json.is_object()) return {plain(line), false};
  auto text = [&](const char* name) -> std::string {
    const auto at = json.find(name);
    return at != json.end() && at->is_string() ? at->get<std::string>() : std::string();
  };
  const std::string level = text("level");
  return {plain(text("msg")), level == "error" || level == "fatal" || level == "panic"};
}

// runc writes an object a line; crun writes one over several, of which the first is "{" and the
// last
// "}".
std::vector<Line> read_lines(std::string_view log) {
  std::vector<Line> lines;
  std::string open;
  for (const std::string_view line : split(log, '\n')) {
    const std::string_view text = trim(line);
    if (text.empty()) continue;
    if (open.empty() && text != "{") {
      lines.push_back(read_line(text));
      continue;
    }
    open += text;
    if (line != "}") continue;
    lines.push_back(read_line(open));
    open.clear();
  }
  // What the program has not finished.
  if (!open.empty()) lines.push_back(read_line(open));
  return lines;
}

}  // namespace

std::string last_words(std::string_view log) {
  if (log.size() > kMaxLogTailBytes) log.remove_prefix(log.size() - kMaxLogTailBytes);
  std::string last;
  const std::vector<Line> lines = read_lines(log);
  for (auto line = lines.rbegin(); line != lines.rend(); ++line) {
    if (line->words.empty()) continue;
    if (line->is_error) return line->words;
    if (last.empty()) last = line->words;
  }
  return last;
}

}  // namespace fluyt::monitor
