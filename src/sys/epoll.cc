#include "sys/epoll.h"

#include <array>
#include <cerrno>

#include "base/strings.h"

namespace fluyt::sys {

namespace {
// An event carries the descriptor and the low half of the watch's token, so that an event for a
// number that was closed and used again in the same round is told from one for the new watch.
uint64_t pack(int fd, uint64_t token) {
  return (static_cast<uint64_t>(static_cast<uint32_t>(token)) << 32U) | static_cast<uint32_t>(fd);
}
}  // namespace

Result<Epoll> Epoll::create() {
  Fd fd(epoll_create1(EPOLL_CLOEXEC));
  if (!fd.valid()) return Error::from_errno(errno, "epoll_create1()");
  return Epoll(std::move(fd));
}

Result<> Epoll::add(FdRef fd, uint32_t events, Handler handler) {
  const uint64_t token = next_token_++;
  epoll_event event{};
  event.events = events;
  event.data.u64 = pack(fd.raw(), token);
  if (epoll_ctl(fd_.raw(), EPOLL_CTL_ADD, fd.raw(), &event) != 0) {
    return Error::from_errno(errno, cat("epoll_ctl(ADD, [", fd.raw(), "])"));
  }
  watches_[fd.raw()] = Watch{token, std::move(handler)};
  return {};
}

Result<> Epoll::change(FdRef fd, uint32_t events) {
  const auto watch = watches_.find(fd.raw());
  if (watch == watches_.end())
    return Error::from_errno(ENOENT, cat("epoll change [", fd.raw(), "]"));
  epoll_event event{};
  event.events = events;
  event.data.u64 = pack(fd.raw(), watch->second.token);
  if (epoll_ctl(fd_.raw(), EPOLL_CTL_MOD, fd.raw(), &event) != 0) {
    return Error::from_errno(errno, cat("epoll_ctl(MOD, [", fd.raw(), "])"));
  }
  return {};
}

void Epoll::remove(FdRef fd) {
  epoll_ctl(fd_.raw(), EPOLL_CTL_DEL, fd.raw(), nullptr);
  watches_.erase(fd.raw());
}

Result<int> Epoll::wait(int timeout_ms) {
  std::array<epoll_event, 64> events;
  const int count =
      epoll_wait(fd_.raw(), events.data(), static_cast<int>(events.size()), timeout_ms);
  if (count < 0) {
    if (errno == EINTR) return 0;
    return Error::from_errno(errno, "epoll_wait()");
  }
  for (int i = 0; i < count; ++i) {
    const uint64_t packed = events[static_cast<size_t>(i)].data.u64;
    const auto watch = watches_.find(static_cast<int>(static_cast<uint32_t>(packed)));
    if (watch == watches_.end()) continue;
    if (static_cast<uint32_t>(watch->second.token) != packed >> 32U) continue;
    // A copy, for the handler may remove itself.
    const Handler handler = watch->second.handler;
    handler(events[static_cast<size_t>(i)].events);
  }
  return count;
}

}  // namespace fluyt::sys
