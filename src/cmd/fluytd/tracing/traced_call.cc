#include "cmd/fluytd/tracing/traced_call.h"

#include <algorithm>
#include <cstdint>
#include <string>

#include "base/strings.h"
#include "cmd/fluytd/tracing/options.h"

namespace fluyt::daemon {

namespace {

constexpr size_t kTraceDigits = 32;
constexpr size_t kSpanDigits = 16;
constexpr uint8_t kSampled = 1;

// Lower case alone: the recommendation has no other.
std::optional<std::string> bytes_of(std::string_view digits, size_t count) {
  if (digits.size() != count) return std::nullopt;
  const auto is_digit = [](char c) { return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'f'); };
  if (!std::ranges::all_of(digits, is_digit)) return std::nullopt;
  std::string out;
  for (size_t at = 0; at < count; at += 2) {
    out += static_cast<char>(parse_number<uint8_t>(digits.substr(at, 2), 16).value_or(0));
  }
  return out;
}

bool is_zero(const std::string& id) {
  return std::ranges::all_of(id, [](char c) { return c == '\0'; });
}

}  // namespace

std::optional<Origin> parse_traceparent(std::string_view text) {
  const auto fields = split(text, '-');
  if (fields.size() < 4) return std::nullopt;
  const auto version = bytes_of(fields[0], 2);
  const auto trace_id = bytes_of(fields[1], kTraceDigits);
  const auto span_id = bytes_of(fields[2], kSpanDigits);
  const auto flags = bytes_of(fields[3], 2);
  if (!version || !trace_id || !span_id || !flags) return std::nullopt;
  // Version 00 ends here; later ones may go on; ff is none.
  if (*version == "\xff" || (*version == std::string(1, '\0') && fields.size() != 4))
    return std::nullopt;
  if (is_zero(*trace_id) || is_zero(*span_id)) return std::nullopt;
  const bool sampled = (static_cast<uint8_t>(flags->front()) & kSampled) != 0;
  return Origin{.trace_id = *trace_id, .span_id = *span_id, .sampled = sampled};
}

bool is_sampled(std::string_view trace_id, size_t per_million) {
  if (per_million >= kAllOfAMillion) return true;
  if (per_million == 0 || trace_id.size() < 8) return false;
  // The right half is what is random in every form of ids; 63 bits of it, as the Go SDK takes them.
  uint64_t value = 0;
  for (const char c : trace_id.substr(trace_id.size() - 8)) {
    value = value << 8U | static_cast<uint8_t>(c);
  }
  constexpr double kRange = 9223372036854775808.0;  // 2^63
  const double bound =
      static_cast<double>(per_million) / static_cast<double>(kAllOfAMillion) * kRange;
  return static_cast<double>(value >> 1U) < bound;
}

}  // namespace fluyt::daemon
