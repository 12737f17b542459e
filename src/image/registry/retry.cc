#include "image/registry/retry.h"

#include <curl/curl.h>

#include <algorithm>
#include <chrono>
#include <string>
#include <thread>

#include "base/strings.h"
#include "base/time.h"

namespace fluyt::image::registry {

bool is_retryable_status(int status) {
  switch (status) {
    case 408:
    case 425:
    case 429:
    case 500:
    case 502:
    case 503:
    case 504:
      return true;
    default:
      return false;
  }
}

std::optional<int64_t> parse_retry_after_ms(std::string_view value, int64_t now_unix_ns) {
  constexpr uint32_t kMaxSeconds = 30U * 24 * 3600;
  value = trim(value);
  if (value.empty() || value.size() > 64) return std::nullopt;
  if (const auto seconds = parse_number<uint32_t>(value)) {
    return static_cast<int64_t>(std::min(*seconds, kMaxSeconds)) * 1000;
  }
  const time_t at = curl_getdate(std::string(value).c_str(), nullptr);
  if (at == -1) return std::nullopt;
  const int64_t left_ms = static_cast<int64_t>(at) * 1000 - now_unix_ns / 1'000'000;
  return std::clamp<int64_t>(left_ms, 0, static_cast<int64_t>(kMaxSeconds) * 1000);
}

int64_t backoff_ms(const RetryPolicy& policy, int tries, uint32_t random) {
  int64_t whole = policy.first_delay_ms;
  for (int i = 1; i < tries && whole < policy.delay_cap_ms; ++i) whole *= 2;
  whole = std::min(whole, policy.delay_cap_ms);
  return whole / 2 + static_cast<int64_t>(random) * (whole - whole / 2) / UINT32_MAX;
}

bool sleep_unless_cancelled(int64_t ms, const std::atomic<bool>* cancelled) {
  constexpr std::chrono::nanoseconds kStep = std::chrono::milliseconds(50);
  const int64_t until = now_boot_ns() + ms * 1'000'000;
  while (true) {
    if (cancelled != nullptr && cancelled->load()) return false;
    const std::chrono::nanoseconds left(until - now_boot_ns());
    if (left.count() <= 0) return true;
    std::this_thread::sleep_for(std::min(left, kStep));
  }
}

}  // namespace fluyt::image::registry
