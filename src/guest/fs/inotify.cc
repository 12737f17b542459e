#include "guest/fs/inotify.h"

#include <fcntl.h>
#include <poll.h>
#include <sys/ioctl.h>

#include "guest/fs/devices.h"
#include "guest/fs/ioctl.h"

namespace fluyt::guest {

Inotify::Inotify(std::shared_ptr<Watches> watches, std::shared_ptr<Watcher> watcher, int flags)
    : File(nullptr, make_anonymous_inode(0600, 0), O_RDONLY | flags),
      all_(std::move(watches)),
      watcher_(std::move(watcher)) {}

Inotify::~Inotify() { all_->close(*watcher_); }

ErrnoOr<size_t> Inotify::read(Caller& caller, std::span<std::byte> to, int64_t* /*offset*/) {
  ErrnoOr<size_t> taken = size_t{0};
  const auto take = [&] {
    taken = all_->take(*watcher_, to);
    return !taken.ok() || taken.value() != 0;
  };
  if (!take()) {
    if (nonblocking()) return Errno(EAGAIN);
    GUEST_TRY(wait_until(watcher_->queue(), caller.sleeper, {}, take));
  }
  return taken;
}

uint32_t Inotify::ready(uint32_t /*wanted*/) {
  return all_->waiting_bytes(*watcher_) != 0 ? POLLIN | POLLRDNORM : 0;
}

ErrnoOr<uint64_t> Inotify::ioctl(Caller& caller, uint32_t request, uint64_t argument) {
  if (request != FIONREAD) return Errno(ENOTTY);
  const auto bytes = static_cast<int32_t>(all_->waiting_bytes(*watcher_));
  GUEST_TRY(copy_out(caller, argument, bytes));
  return uint64_t{0};
}

}  // namespace fluyt::guest
