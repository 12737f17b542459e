#include "cmd/fluytd/metrics/exposition.h"

#include <array>
#include <charconv>

#include "base/strings.h"

namespace fluyt::daemon {
namespace {

std::string_view type_name(Exposition::Type type) {
  switch (type) {
    case Exposition::Type::kCounter:
      return "counter";
    case Exposition::Type::kGauge:
      return "gauge";
    case Exposition::Type::kHistogram:
      break;
  }
  return "histogram";
}

/// The shortest text that reads back as the same number.
std::string number_text(double value) {
  std::array<char, 32> text{};
  const auto end = std::to_chars(text.data(), text.data() + text.size(), value);
  return {text.data(), end.ptr};
}

void append_escaped(std::string& out, std::string_view value) {
  for (const char c : value) {
    if (c == '\n') {
      out += "\\n";
    } else if (c == '"' || c == '\\') {
      out += cat('\\', c);
    } else {
      out += c;
    }
  }
}

}  // namespace

void Exposition::family(std::string_view name, Type type, std::string_view help) {
  name_ = name;
  text_ += cat("# HELP ", name, " ", help, "\n# TYPE ", name, " ", type_name(type), "\n");
}

void Exposition::line(std::string_view suffix, const Labels& labels, std::string_view value) {
  text_ += cat(name_, suffix);
  char before = '{';
  for (const auto& [name, text] : labels) {
    text_ += cat(before, name, "=\"");
    append_escaped(text_, text);
    text_ += '"';
    before = ',';
  }
  if (!labels.empty()) text_ += '}';
  text_ += cat(" ", value, "\n");
}

void Exposition::sample(const Labels& labels, double value) {
  line("", labels, number_text(value));
}

void Exposition::sample(const Labels& labels, uint64_t value) {
  line("", labels, std::to_string(value));
}

void Exposition::sample(const Labels& labels, const Histogram::Values& values) {
  Labels with_bound = labels;
  with_bound.emplace_back("le", "");
  for (size_t i = 0; i < Histogram::kBounds.size(); ++i) {
    with_bound.back().second = number_text(Histogram::kBounds[i]);
    line("_bucket", with_bound, std::to_string(values.up_to[i]));
  }
  with_bound.back().second = "+Inf";
  line("_bucket", with_bound, std::to_string(values.count));
  line("_sum", labels, number_text(values.sum_seconds));
  line("_count", labels, std::to_string(values.count));
}

}  // namespace fluyt::daemon
