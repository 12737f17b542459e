#pragma once

#include <atomic>
#include <chrono>
#include <cstdint>
#include <optional>

/// futex(2) within one process: to sleep until a word changes, without a lock around it.
namespace fluyt::sys {

/// Until `word` is not `value`, somebody wakes it, a signal comes, or `deadline`; the caller looks
/// again. False: the deadline came.
bool wait_on(const std::atomic<uint32_t>& word, uint32_t value,
             const std::optional<std::chrono::steady_clock::time_point>& deadline);
/// One of those who wait on it. A word that is no more does no harm: only its address counts.
void wake_one(const std::atomic<uint32_t>& word);

}  // namespace fluyt::sys
