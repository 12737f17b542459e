#include "guest/base/listener_table.h"

#include <linux/seccomp.h>
#include <sys/ioctl.h>

#include <cerrno>
#include <cstdint>
#include <utility>

namespace fluyt::guest {

ListenerTable& ListenerTable::own() {
  static auto& table =
      *new ListenerTable;  // threads of tasks may outlive what is destroyed at exit
  return table;
}

bool ListenerTable::claim(int number) {
  const Lock lock = hold();
  if (known_.contains(number)) return false;
  // Any other kind of descriptor has no such ioctl.
  uint64_t none = 0;
  if (ioctl(number, SECCOMP_IOCTL_NOTIF_ID_VALID, &none) == 0 || errno != ENOENT) return false;
  known_.insert(number);
  return true;
}

// Both at once: the number may be a stub's new listener right behind.
void ListenerTable::close(sys::Fd fd) {
  const Lock lock = hold();
  known_.erase(fd.raw());
  fd.reset();
}

KnownListener::KnownListener(sys::Fd fd, const ListenerTable::Lock& /*lock*/) : fd_(std::move(fd)) {
  if (fd_.valid()) ListenerTable::own().known_.insert(fd_.raw());
}

KnownListener KnownListener::claimed(int number) {
  KnownListener out;
  out.fd_ = sys::Fd(number);
  return out;
}

KnownListener& KnownListener::operator=(KnownListener&& other) noexcept {
  std::swap(fd_, other.fd_);
  return *this;
}

KnownListener::~KnownListener() {
  if (fd_.valid()) ListenerTable::own().close(std::move(fd_));
}

}  // namespace fluyt::guest
