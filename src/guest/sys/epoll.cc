#include "guest/fs/epoll.h"

#include <fcntl.h>
#include <sys/epoll.h>

#include <climits>

#include "guest/sys/handlers.h"

namespace fluyt::guest {
namespace {

struct EpollAt {
  FilePtr file;
  Epoll* epoll = nullptr;
};

/// EINVAL when the descriptor is something else.
ErrnoOr<EpollAt> get_epoll(Task& task, uint64_t fd) {
  EpollAt out;
  out.file = GUEST_TRY(task.files->get(as_int(fd)));
  out.epoll = dynamic_cast<Epoll*>(out.file.get());
  if (out.epoll == nullptr) return Errno(EINVAL);
  return out;
}

ErrnoOr<uint64_t> wait_at(Task& task, uint64_t fd, uint64_t address, uint64_t most,
                          const Deadline& deadline) {
  const int count = as_int(most);
  if (count <= 0 || count > INT_MAX / static_cast<int>(sizeof(EpollEvent))) return Errno(EINVAL);
  const EpollAt at = GUEST_TRY(get_epoll(task, fd));
  const size_t found = GUEST_TRY(at.epoll->wait(
      task.sleeper, static_cast<size_t>(count), deadline, [&](std::span<const EpollEvent> events) {
        return task.copy_out(address, std::as_bytes(events));
      }));
  return uint64_t{found};
}

Deadline in_milliseconds(uint64_t timeout) {
  if (as_int(timeout) < 0) return {};
  return after_ns(int64_t{as_int(timeout)} * 1'000'000);
}

}  // namespace

ErrnoOr<uint64_t> sys_epoll_create1(Task& task, Arguments a) {
  const int flags = as_int(a[0]);
  if ((flags & ~EPOLL_CLOEXEC) != 0) return Errno(EINVAL);
  return add_file(task, std::make_shared<Epoll>(0), (flags & EPOLL_CLOEXEC) != 0);
}

ErrnoOr<uint64_t> sys_epoll_create(Task& task, Arguments a) {
  if (as_int(a[0]) <= 0) return Errno(EINVAL);
  return add_file(task, std::make_shared<Epoll>(0), false);
}

ErrnoOr<uint64_t> sys_epoll_ctl(Task& task, Arguments a) {
  const int what = as_int(a[1]);
  const int fd = as_int(a[2]);
  EpollEvent event;
  if (what != EPOLL_CTL_DEL) event = GUEST_TRY(task.get<EpollEvent>(a[3]));
  const FilePtr outer = GUEST_TRY(task.files->get(as_int(a[0])));
  const FilePtr file = GUEST_TRY(task.files->get(fd));
  if ((file->flags() & O_PATH) != 0) return Errno(EBADF);
  if (file->queue() == nullptr) return Errno(EPERM);
  auto* epoll = dynamic_cast<Epoll*>(outer.get());
  if (epoll == nullptr || outer == file) return Errno(EINVAL);
  switch (what) {
    case EPOLL_CTL_ADD:
      GUEST_TRY(epoll->add(fd, file, event));
      return uint64_t{0};
    case EPOLL_CTL_MOD:
      GUEST_TRY(epoll->modify(fd, file, event));
      return uint64_t{0};
    case EPOLL_CTL_DEL:
      GUEST_TRY(epoll->remove(fd, file));
      return uint64_t{0};
    default:
      return Errno(EINVAL);
  }
}

ErrnoOr<uint64_t> sys_epoll_wait(Task& task, Arguments a) {
  return wait_at(task, a[0], a[1], a[2], in_milliseconds(a[3]));
}

ErrnoOr<uint64_t> sys_epoll_pwait(Task& task, Arguments a) {
  const Deadline deadline = in_milliseconds(a[3]);
  return with_mask(task, a[4], a[5], [&] { return wait_at(task, a[0], a[1], a[2], deadline); });
}

ErrnoOr<uint64_t> sys_epoll_pwait2(Task& task, Arguments a) {
  const Deadline deadline = GUEST_TRY(deadline_of(task, a[3]));
  return with_mask(task, a[4], a[5], [&] { return wait_at(task, a[0], a[1], a[2], deadline); });
}

}  // namespace fluyt::guest
