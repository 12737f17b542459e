#pragma once

#include <atomic>
#include <cstdint>
#include <optional>
#include <string_view>

namespace fluyt::image::registry {

/// When a request that failed is tried again (images: distribution-spec leaves it to the client).
struct RetryPolicy {
  int max_tries = 6;             // without progress in between
  int64_t first_delay_ms = 500;  // doubled each time, with full jitter
  int64_t delay_cap_ms = 20'000;
  int64_t retry_after_cap_ms = 60'000;   // a registry that wants more is told to the caller
  uint64_t progress_bytes = 1UL << 20U;  // so many new bytes start the count again
};

/// 408, 425, 429, 500, 502, 503, 504.
bool is_retryable_status(int status);

/// Milliseconds that a Retry-After header asks for: seconds or an HTTP date; nothing when it cannot
/// be read.
std::optional<int64_t> parse_retry_after_ms(std::string_view value, int64_t now_unix_ns);

/// The wait before try number `tries + 1`: a random part of the doubled delay, at least half of it,
/// so that a registry in trouble is not hit by everybody at once.
int64_t backoff_ms(const RetryPolicy& policy, int tries, uint32_t random);

/// Sleeps, waking every 50 ms to look at `cancelled`; false when cancelled.
bool sleep_unless_cancelled(int64_t ms, const std::atomic<bool>* cancelled);

}  // namespace fluyt::image::registry
