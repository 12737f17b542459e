#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "base/result.h"

namespace fluyt {

/// Wall-clock time now, in nanoseconds since 1970 (CLOCK_REALTIME).
int64_t now_unix_ns();
/// Time since boot including suspend, in nanoseconds (CLOCK_BOOTTIME): for durations and deadlines.
int64_t now_boot_ns();

/// RFC 3339 with nine fractional digits and "Z", such as 2026-01-02T03:04:05.000000006Z: the form
/// of CRI log lines. Writes exactly 30 characters.
inline constexpr size_t kRfc3339NanoSize = 30;
void format_rfc3339_nano(int64_t unix_ns, char* out);
std::string format_rfc3339_nano(int64_t unix_ns);
/// Parses RFC 3339 with any offset and 0 to 9 fractional digits.
Result<int64_t> parse_rfc3339(std::string_view text);

/// For people: "3 seconds", "2 minutes", "5 hours", "3 days".
std::string human_duration(int64_t ns);

/// A point in boot time by which something is to be done; never() has none.
class Deadline {
 public:
  static Deadline after_ms(int64_t ms) { return Deadline(now_boot_ns() + ms * 1'000'000); }
  static Deadline never() { return Deadline(INT64_MAX); }
  static Deadline sooner_of(Deadline a, Deadline b) { return a.at_ns_ < b.at_ns_ ? a : b; }
  bool passed() const { return at_ns_ != INT64_MAX && now_boot_ns() >= at_ns_; }
  /// Milliseconds left, rounded up, at least 0; -1 for never: what poll(2) and epoll_wait(2) take.
  int poll_timeout_ms() const;

 private:
  explicit Deadline(int64_t at_ns) : at_ns_(at_ns) {}
  int64_t at_ns_;
};

}  // namespace fluyt
