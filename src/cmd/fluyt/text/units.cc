#include "cmd/fluyt/text/units.h"

#include <array>
#include <cstdio>

#include "base/strings.h"
#include "base/time.h"

namespace fluyt::cli {

namespace {

Error bad(std::string text) { return {Code::kInvalidArgument, std::move(text)}; }

std::string three_digits(uint64_t bytes, double step, const std::array<const char*, 6>& units) {
  auto value = static_cast<double>(bytes);
  size_t unit = 0;
  // 999.5 would be shown as 1000: it belongs to the next unit.
  while (value >= step - 0.5 && unit + 1 < units.size()) {
    value /= step;
    ++unit;
  }
  std::array<char, 32> text;
  const int digits = unit == 0 || value >= 99.95 ? 0 : value >= 9.995 ? 1 : 2;
  (void)std::snprintf(text.data(), text.size(), "%.*f%s", digits, value, units[unit]);
  return text.data();
}

uint64_t unit_bytes(std::string_view unit) {
  if (unit.empty() || unit == "b") return 1;
  const size_t power = std::string_view("kmgtp").find(unit[0]);
  const std::string_view rest = unit.substr(1);
  if (power == std::string_view::npos || !(rest.empty() || rest == "b" || rest == "ib")) return 0;
  return 1ULL << (10U * (power + 1));
}

int64_t unit_ns(char unit) {
  switch (unit) {
    case 's':
      return 1'000'000'000;
    case 'm':
      return 60'000'000'000;
    case 'h':
      return 3'600'000'000'000;
    case 'd':
      return 86'400'000'000'000;
    default:
      return 0;
  }
}

}  // namespace

std::string human_size(uint64_t bytes) {
  return three_digits(bytes, 1000, {"B", "kB", "MB", "GB", "TB", "PB"});
}

std::string human_memory(uint64_t bytes) {
  return three_digits(bytes, 1024, {"B", "KiB", "MiB", "GiB", "TiB", "PiB"});
}

std::string ago(int64_t unix_ns, int64_t now_ns) {
  if (unix_ns == 0) return {};
  return cat(human_duration(now_ns > unix_ns ? now_ns - unix_ns : 0), " ago");
}

std::string short_id(std::string_view id) {
  if (id.starts_with("sha256:")) id.remove_prefix(7);
  return std::string(id.substr(0, 12));
}

Result<uint64_t> parse_size(std::string_view text) {
  const std::string lower = to_lower(text);
  const size_t digits = lower.find_first_not_of("0123456789");
  const std::string_view number = std::string_view(lower).substr(0, digits);
  const uint64_t unit =
      unit_bytes(digits == std::string::npos ? "" : std::string_view(lower).substr(digits));
  const auto value = parse_number<uint64_t>(number);
  if (!value || unit == 0) {
    return bad(cat(quote(text, 64), " is not a size such as 512m, 1g or 1048576"));
  }
  if (*value > UINT64_MAX / unit) return bad(cat(quote(text, 64), " is too large"));
  return *value * unit;
}

Result<int64_t> parse_cpus(std::string_view text) {
  const auto parts = split(text, '.');
  const std::string_view fraction = parts.size() == 2 ? parts[1] : "";
  const auto whole = parse_number<uint32_t>(parts[0]);
  // A hundred-thousandth of a CPU is one microsecond of the period: five digits say it all.
  std::string digits(fraction.substr(0, 5));
  digits.append(5 - digits.size(), '0');
  const auto part = parse_number<uint32_t>(digits);
  const bool good = parts.size() <= 2 && whole && *whole <= 100'000 && part &&
                    fraction.find_first_not_of("0123456789") == std::string_view::npos;
  const int64_t quota = good ? int64_t{*whole} * kCpuPeriodUs + *part : 0;
  // The kernel takes no quota below 1 ms.
  if (quota < 1000) return bad(cat(quote(text, 64), " is not a number of CPUs such as 0.5 or 2"));
  return quota;
}

Result<int64_t> parse_duration(std::string_view text) {
  const std::string_view whole = text;
  int64_t total = 0;
  bool good = !text.empty();
  while (good && !text.empty()) {
    const size_t digits = text.find_first_not_of("0123456789");
    const auto value = parse_number<int64_t>(text.substr(0, digits));
    const int64_t unit = digits == std::string_view::npos ? 0 : unit_ns(text[digits]);
    good = value && unit != 0 && *value < INT64_MAX / unit / 2 && total < INT64_MAX / 2;
    if (!good) break;
    total += *value * unit;
    text.remove_prefix(digits + 1);
  }
  if (!good) return bad(cat(quote(whole, 64), " is not a duration such as 90s, 10m or 1h30m"));
  return total;
}

Result<int64_t> parse_since(std::string_view text, int64_t now_ns) {
  if (auto duration = parse_duration(text); duration.ok()) return now_ns - *duration;
  auto time = parse_rfc3339(text);
  if (time.ok()) return time;
  return bad(cat(quote(text, 64),
                 " is neither a duration such as 10m nor a time such as 2026-01-02T03:04:05Z"));
}

}  // namespace fluyt::cli
