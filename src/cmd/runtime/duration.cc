#include "cmd/runtime/duration.h"

#include <array>
#include <utility>

#include "base/strings.h"

namespace fluyt::commands {

namespace {

constexpr int64_t kMaxNs = int64_t{366} * 24 * 3600 * 1'000'000'000;

// Longest first: "ms" is no "m".
constexpr std::array<std::pair<std::string_view, int64_t>, 7> kUnits = {{{"ns", 1},
                                                                         {"us", 1'000},
                                                                         {"\u00b5s", 1'000},
                                                                         {"ms", 1'000'000},
                                                                         {"s", 1'000'000'000},
                                                                         {"m", 60'000'000'000},
                                                                         {"h", 3'600'000'000'000}}};

std::string_view take_digits(std::string_view& text) {
  size_t end = 0;
  while (end < text.size() && text[end] >= '0' && text[end] <= '9') ++end;
  const std::string_view digits = text.substr(0, end);
  text.remove_prefix(end);
  return digits;
}

// One number with its unit, in nanoseconds.
std::optional<int64_t> take_part(std::string_view& text) {
  const std::string_view whole = take_digits(text);
  std::string_view fraction;
  if (text.starts_with('.')) {
    text.remove_prefix(1);
    fraction = take_digits(text);
  }
  if (whole.empty() && fraction.empty()) return std::nullopt;
  const auto count = whole.empty() ? 0 : parse_number<int64_t>(whole);
  if (!count || fraction.size() > 9) return std::nullopt;
  for (const auto& [name, unit] : kUnits) {
    if (!text.starts_with(name)) continue;
    text.remove_prefix(name.size());
    if (*count > kMaxNs / unit) return std::nullopt;
    int64_t ns = *count * unit;
    int64_t place = unit;
    for (const char digit : fraction) ns += (digit - '0') * (place /= 10);
    return ns;
  }
  return std::nullopt;
}

}  // namespace

Result<int64_t> parse_duration_ms(std::string_view text) {
  int64_t sum = 0;
  std::string_view rest = text;
  do {
    const auto part = take_part(rest);
    if (!part || *part > kMaxNs - sum) {
      return Error(Code::kInvalidArgument,
                   cat(quote(text), ": expected a time such as 5s, 1m30s or 100ms"));
    }
    sum += *part;
  } while (!rest.empty());
  return (sum + 999'999) / 1'000'000;
}

}  // namespace fluyt::commands
