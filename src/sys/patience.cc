#include "sys/patience.h"

#include <algorithm>
#include <array>
#include <cerrno>

namespace fluyt::sys {

Result<bool> Patience::poll(std::span<pollfd> entries) {
  // Once it is preferred to the deadline, for it may have come in time.
  if (asked_before_ && deadline_.passed()) return false;
  asked_before_ = true;
  constexpr size_t kMost = 8;
  std::array<pollfd, kMost> all;
  const size_t count = std::min(entries.size(), kMost - 1);
  std::ranges::copy(entries.first(count), all.begin());
  while (true) {
    // One that is not valid is passed over.
    all[count] = {.fd = stop_.fd.raw(), .events = POLLIN, .revents = 0};
    const int ready = ::poll(all.data(), count + 1, deadline_.poll_timeout_ms());
    if (ready < 0 && errno == EINTR) continue;
    if (ready < 0) return Error::from_errno(errno, "poll()");
    if (ready == 0) return false;
    const bool asked = all[count].revents != 0;
    if (asked) {
      stopped_ = true;
      deadline_ = Deadline::sooner_of(deadline_, Deadline::after_ms(stop_.grace_ms));
      stop_.fd = {};
    }
    if (asked && ready == 1) continue;
    std::ranges::copy(std::span(all).first(count), entries.begin());
    return true;
  }
}

Result<bool> Patience::wait_readable(FdRef fd) {
  pollfd entry{.fd = fd.raw(), .events = POLLIN, .revents = 0};
  return poll({&entry, 1});
}

}  // namespace fluyt::sys
