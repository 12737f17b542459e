#include "base/time.h"

#include <algorithm>
#include <chrono>
#include <climits>
#include <ctime>

#include "base/strings.h"

namespace fluyt {

namespace {

constexpr int64_t kSecond = 1'000'000'000;

int64_t clock_ns(clockid_t clock) {
  timespec now{};
  clock_gettime(clock, &now);  // cannot fail: both clocks exist on every kernel we run on
  return now.tv_sec * kSecond + now.tv_nsec;
}

void put_digits(char* out, int64_t value, int count) {
  for (int i = count - 1; i >= 0; --i) {
    out[i] = static_cast<char>('0' + value % 10);
    value /= 10;
  }
}

}  // namespace

int64_t now_unix_ns() { return clock_ns(CLOCK_REALTIME); }
int64_t now_boot_ns() { return clock_ns(CLOCK_BOOTTIME); }

void format_rfc3339_nano(int64_t unix_ns, char* out) {
  // Not gmtime_r(3): it reads the host's time zone files.
  using std::chrono::days;
  const std::chrono::sys_time<std::chrono::nanoseconds> when{std::chrono::nanoseconds(unix_ns)};
  const auto midnight = std::chrono::floor<days>(when);
  const std::chrono::year_month_day date{midnight};
  const std::chrono::hh_mm_ss time{when - midnight};
  put_digits(out, static_cast<int>(date.year()), 4);
  out[4] = '-';
  put_digits(out + 5, static_cast<unsigned>(date.month()), 2);
  out[7] = '-';
  put_digits(out + 8, static_cast<unsigned>(date.day()), 2);
  out[10] = 'T';
  put_digits(out + 11, time.hours().count(), 2);
  out[13] = ':';
  put_digits(out + 14, time.minutes().count(), 2);
  out[16] = ':';
  put_digits(out + 17, time.seconds().count(), 2);
  out[19] = '.';
  put_digits(out + 20, time.subseconds().count(), 9);
  out[29] = 'Z';
}

std::string format_rfc3339_nano(int64_t unix_ns) {
  std::string out(kRfc3339NanoSize, '\0');
  format_rfc3339_nano(unix_ns, out.data());
  return out;
}

Result<int64_t> parse_rfc3339(std::string_view text) {
  auto bad = [&] {
    return Error(Code::kInvalidArgument, cat("time ", quote(text), ": expected RFC 3339"));
  };
  auto number = [&](size_t at, size_t length) -> int {
    if (at + length > text.size()) return -1;
    return parse_number<int>(text.substr(at, length)).value_or(-1);
  };
  auto is = [&](size_t at, char c) { return at < text.size() && text[at] == c; };
  tm t{};
  t.tm_year = number(0, 4) - 1900;
  t.tm_mon = number(5, 2) - 1;
  t.tm_mday = number(8, 2);
  t.tm_hour = number(11, 2);
  t.tm_min = number(14, 2);
  t.tm_sec = number(17, 2);
  const bool shaped = is(4, '-') && is(7, '-') && (is(10, 'T') || is(10, 't') || is(10, ' ')) &&
                      is(13, ':') && is(16, ':');
  const bool ranged = t.tm_year >= -1900 && t.tm_mon >= 0 && t.tm_mon < 12 && t.tm_mday >= 1 &&
                      t.tm_mday <= 31 && t.tm_hour >= 0 && t.tm_hour < 24 && t.tm_min >= 0 &&
                      t.tm_min < 60 && t.tm_sec >= 0 && t.tm_sec <= 60;
  if (!shaped || !ranged) return bad();
  size_t at = 19;
  int64_t nanos = 0;
  if (is(at, '.')) {
    ++at;
    int64_t unit = kSecond / 10;
    const size_t start = at;
    while (at < text.size() && text[at] >= '0' && text[at] <= '9') {
      nanos += (text[at] - '0') * unit;
      unit /= 10;
      ++at;
    }
    if (at == start) return bad();
  }
  int64_t offset_s = 0;
  if (is(at, 'Z') || is(at, 'z')) {
    ++at;
  } else if (is(at, '+') || is(at, '-')) {
    const int hours = number(at + 1, 2);
    const int minutes = number(at + 4, 2);
    if (hours < 0 || minutes < 0 || !is(at + 3, ':')) return bad();
    offset_s = (hours * 60 + minutes) * 60 * (text[at] == '-' ? -1 : 1);
    at += 6;
  } else {
    return bad();
  }
  if (at != text.size()) return bad();
  return (static_cast<int64_t>(timegm(&t)) - offset_s) * kSecond + nanos;
}

std::string human_duration(int64_t ns) {
  const int64_t s = std::max<int64_t>(0, ns / kSecond);
  auto say = [](int64_t n, std::string_view unit) { return cat(n, " ", unit, n == 1 ? "" : "s"); };
  if (s < 120) return say(s, "second");
  if (s < 120 * 60) return say(s / 60, "minute");
  if (s < 48 * 3600) return say(s / 3600, "hour");
  return say(s / 86400, "day");
}

int Deadline::poll_timeout_ms() const {
  if (at_ns_ == INT64_MAX) return -1;
  const int64_t left = at_ns_ - now_boot_ns();
  if (left <= 0) return 0;
  return static_cast<int>(std::min<int64_t>((left + 999'999) / 1'000'000, INT_MAX));
}

}  // namespace fluyt
