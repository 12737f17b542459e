#pragma once

#include <atomic>
#include <cstdint>
#include <optional>
#include <string_view>

#include "image/registry/options.h"

namespace fluyt::image::registry {

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
