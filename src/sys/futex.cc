#include "sys/futex.h"

#include <linux/futex.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <ctime>

namespace fluyt::sys {

static_assert(sizeof(std::atomic<uint32_t>) == sizeof(uint32_t));

bool wait_on(const std::atomic<uint32_t>& word, uint32_t value,
             const std::optional<std::chrono::steady_clock::time_point>& deadline) {
  timespec until{};
  if (deadline) {
    constexpr int64_t kSecond = 1'000'000'000;
    const auto since = std::chrono::nanoseconds(deadline->time_since_epoch()).count();
    const int64_t ns = std::max<int64_t>(since, 0);
    until = {.tv_sec = ns / kSecond, .tv_nsec = ns % kSecond};
  }
  // With a bitset the time is absolute, of CLOCK_MONOTONIC.
  const long done = syscall(SYS_futex, &word, FUTEX_WAIT_BITSET_PRIVATE, value,
                            deadline ? &until : nullptr, nullptr, FUTEX_BITSET_MATCH_ANY);
  return done == 0 || errno != ETIMEDOUT;
}

void wake_one(const std::atomic<uint32_t>& word) {
  syscall(SYS_futex, &word, FUTEX_WAKE_PRIVATE, 1, nullptr, nullptr, 0);
}

}  // namespace fluyt::sys
