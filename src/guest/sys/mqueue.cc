#include "guest/fs/mqueue.h"

#include <fcntl.h>
#include <signal.h>
#include <sys/socket.h>

#include <algorithm>
#include <array>

#include "guest/net/netlink.h"
#include "guest/platform/host/io.h"
#include "guest/sys/handlers.h"

namespace fluyt::guest {
namespace {

constexpr uint64_t kPriorities = 32768;  // MQ_PRIO_MAX
constexpr size_t kCookie = 32;           // NOTIFY_COOKIE_LEN

/// struct sigevent, as far as mq_notify(2) reads it.
struct SignalEvent {
  uint64_t value = 0;
  int32_t signal = 0;  // of SIGEV_THREAD: a netlink(7) socket
  int32_t how = 0;
  uint64_t rest[6] = {};
};
static_assert(sizeof(SignalEvent) == 64);

ErrnoOr<std::shared_ptr<QueueFile>> get_queue(Task& task, uint64_t fd) {
  const FilePtr file = GUEST_TRY(task.files->get(as_int(fd)));
  auto queue = std::dynamic_pointer_cast<QueueFile>(file);
  if (!queue || (queue->flags() & O_PATH) != 0) return Errno(EBADF);
  return queue;
}

/// An absolute time of CLOCK_REALTIME; an address of 0 is for ever.
ErrnoOr<Deadline> deadline_at(Task& task, uint64_t address) {
  if (address == 0) return Deadline();
  const GuestTime time = GUEST_TRY(get_time(task, address));
  const int64_t due = in_ns(time);
  return Deadline(after_ns(std::max<int64_t>(due - host::clock_ns(CLOCK_REALTIME), 0)));
}

/// Whether the thread that calls is of the process that asks.
auto is_caller(const Task& task) {
  return [owner = std::weak_ptr(task.process)] {
    const Task* caller = Task::current();
    return caller != nullptr && !owner.owner_before(caller->process) &&
           !caller->process.owner_before(owner);
  };
}

void by_nothing(QueueNotice::Told /*told*/) {}

/// Of the process that asks, by the sender's thread; not of the program that it has executed since.
std::function<void(QueueNotice::Told)> by_signal(Task& task, const SignalEvent& event) {
  if (event.signal == 0) return by_nothing;
  uint64_t program = 0;
  {
    std::lock_guard lock(task.kernel.lock);
    program = task.process->programs;
  }
  return [&kernel = task.kernel, owner = std::weak_ptr(task.process), program,
          signal = event.signal, value = event.value](QueueNotice::Told told) {
    const ProcessPtr process = owner.lock();
    const Task* sender = Task::current();
    if (told != QueueNotice::Told::kMessage || !process || sender == nullptr) return;
    std::lock_guard lock(kernel.lock);
    if (process->programs != program) return;
    SignalInfo info = signal_from(*sender, *process, signal, SI_MESGQ);
    info.set_value(value);
    if (kernel.may_queue(*process, info).ok()) kernel.send(*process, info);
  };
}

/// The C library's thread reads it from a socket of netlink(7), with what it was in its last byte.
auto by_cookie(SocketPtr socket, std::array<std::byte, kCookie> cookie) {
  return [socket = std::move(socket), cookie](QueueNotice::Told told) {
    std::vector<std::byte> bytes(cookie.begin(), cookie.end());
    bytes.back() = std::byte{told == QueueNotice::Told::kMessage ? uint8_t{1} : uint8_t{2}};
    tell_netlink(*socket, std::move(bytes)).ignore("there is no room, and nobody to tell");
  };
}

}  // namespace

ErrnoOr<uint64_t> sys_mq_open(Task& task, Arguments a) {
  std::optional<QueueAttributes> wanted;
  const int flags = as_int(a[1]);
  if (a[3] != 0) wanted = GUEST_TRY(task.get<QueueAttributes>(a[3]));
  const std::string name = GUEST_TRY(task.get_path(a[0]));
  if (name.empty()) return Errno(ENOENT);
  GUEST_TRY(task.files->has_room());
  MessageQueues::Opener opener{task.credentials};
  {
    std::lock_guard lock(task.fs->lock);
    opener.umask = task.fs->umask;
  }
  FilePtr file = GUEST_TRY(
      task.sysv().posix_queues->open(name, flags, static_cast<uint32_t>(a[2]), wanted, opener));
  return add_file(task, std::move(file), true);
}

ErrnoOr<uint64_t> sys_mq_unlink(Task& task, Arguments a) {
  const std::string name = GUEST_TRY(task.get_path(a[0]));
  if (name.empty()) return Errno(ENOENT);
  GUEST_TRY(task.sysv().posix_queues->unlink(name, task.credentials));
  return uint64_t{0};
}

ErrnoOr<uint64_t> sys_mq_timedsend(Task& task, Arguments a) {
  const Deadline deadline = GUEST_TRY(deadline_at(task, a[4]));
  const auto priority = static_cast<uint32_t>(a[3]);
  if (priority >= kPriorities) return Errno(EINVAL);
  const std::shared_ptr<QueueFile> queue = GUEST_TRY(get_queue(task, a[0]));
  if (!queue->writable()) return Errno(EBADF);
  QueueMessage message = GUEST_TRY(queue->make_message(a[2], priority));
  GUEST_TRY(task.copy_in(a[1], message.text));
  Caller caller = task.caller();
  GUEST_TRY(queue->send(caller, std::move(message), deadline));
  return uint64_t{0};
}

ErrnoOr<uint64_t> sys_mq_timedreceive(Task& task, Arguments a) {
  const Deadline deadline = GUEST_TRY(deadline_at(task, a[4]));
  const std::shared_ptr<QueueFile> queue = GUEST_TRY(get_queue(task, a[0]));
  if (!queue->readable()) return Errno(EBADF);
  Caller caller = task.caller();
  const QueueMessage message = GUEST_TRY(queue->receive(caller, a[2], deadline));
  if (a[3] != 0) GUEST_TRY(task.put(a[3], message.priority));
  GUEST_TRY(task.copy_out(a[1], message.text));
  return uint64_t{message.text.size()};
}

ErrnoOr<uint64_t> sys_mq_notify(Task& task, Arguments a) {
  if (a[1] == 0) {
    const std::shared_ptr<QueueFile> queue = GUEST_TRY(get_queue(task, a[0]));
    queue->drop_notice();
    return uint64_t{0};
  }
  const SignalEvent event = GUEST_TRY(task.get<SignalEvent>(a[1]));
  QueueNotice notice{task.process->pid, is_caller(task), task.files.get(),
                     event.how,         event.signal,    {}};
  switch (event.how) {
    case SIGEV_NONE:
      notice.tell = by_nothing;
      break;
    case SIGEV_SIGNAL:
      if (event.signal < 0 || event.signal > kSignals) return Errno(EINVAL);
      notice.tell = by_signal(task, event);
      break;
    case SIGEV_THREAD: {
      const auto cookie = GUEST_TRY((task.get<std::array<std::byte, kCookie>>(event.value)));
      const FilePtr file = GUEST_TRY(task.files->get(event.signal));
      auto socket = std::dynamic_pointer_cast<Socket>(file);
      if (!socket) return Errno(ENOTSOCK);
      if (socket->family() != AF_NETLINK) return Errno(EINVAL);
      notice.tell = by_cookie(std::move(socket), cookie);
      break;
    }
    default:
      return Errno(EINVAL);
  }
  const std::shared_ptr<QueueFile> queue = GUEST_TRY(get_queue(task, a[0]));
  GUEST_TRY(queue->set_notice(std::move(notice)));
  return uint64_t{0};
}

ErrnoOr<uint64_t> sys_mq_getsetattr(Task& task, Arguments a) {
  QueueAttributes wanted;
  if (a[1] != 0) {
    wanted = GUEST_TRY(task.get<QueueAttributes>(a[1]));
    if ((wanted.flags & ~int64_t{O_NONBLOCK}) != 0) return Errno(EINVAL);
  }
  const std::shared_ptr<QueueFile> queue = GUEST_TRY(get_queue(task, a[0]));
  const QueueAttributes before = queue->attributes();
  if (a[1] != 0) queue->set_flags((queue->flags() & ~O_NONBLOCK) | static_cast<int>(wanted.flags));
  if (a[2] != 0) GUEST_TRY(task.put(a[2], before));
  return uint64_t{0};
}

}  // namespace fluyt::guest
