#include <fcntl.h>
#include <netinet/in.h>
#include <signal.h>
#include <sys/socket.h>

#include <algorithm>
#include <climits>
#include <cstring>
#include <optional>

#include "guest/net/socket.h"
#include "guest/sys/handlers.h"

namespace fluyt::guest {
namespace {

constexpr size_t kStep = size_t{256} << 10;     // of a transfer
constexpr size_t kLongest = size_t{512} << 10;  // of a message: no socket has more room
constexpr size_t kMostControl = 20480;          // net.core.optmem_max
constexpr size_t kMostFiles = 253;              // SCM_MAX_FD
constexpr size_t kMostMessages = 1024;          // of sendmmsg, recvmmsg

/// struct msghdr, struct mmsghdr, struct iovec, struct cmsghdr of x86-64.
struct MessageHeader {
  uint64_t name = 0;
  int32_t name_length = 0;
  uint32_t padding1 = 0;
  uint64_t vectors = 0;
  uint64_t vector_count = 0;
  uint64_t control = 0;
  uint64_t control_length = 0;
  int32_t flags = 0;
  uint32_t padding2 = 0;
};
static_assert(sizeof(MessageHeader) == 56);
struct MultiHeader {
  MessageHeader header;
  uint32_t count = 0;
  uint32_t padding = 0;
};
static_assert(sizeof(MultiHeader) == 64);
using Vector = IoVector;
struct ControlHeader {
  uint64_t length = 0;
  int32_t level = 0;
  int32_t type = 0;
};
constexpr size_t aligned(size_t length) { return (length + 7) & ~size_t{7}; }

ErrnoOr<SocketPtr> get_socket(Task& task, uint64_t fd) {
  const FilePtr file = GUEST_TRY(task.files->get(as_int(fd)));
  if ((file->flags() & O_PATH) != 0) return Errno(EBADF);
  auto socket = std::dynamic_pointer_cast<Socket>(file);
  if (!socket) return Errno(ENOTSOCK);
  return socket;
}

Places places_of(Task& task) {
  Places places{*task.kernel.tree, task.walk_from(), 0};
  std::lock_guard lock(task.fs->lock);
  places.umask = task.fs->umask;
  return places;
}

/// An address of the program's, copied once.
ErrnoOr<SocketAddress> get_address(Task& task, uint64_t address, int length) {
  if (length < 0 || static_cast<uint32_t>(length) > SocketAddress::kMost) return Errno(EINVAL);
  SocketAddress out;
  out.length = static_cast<uint32_t>(length);
  GUEST_TRY(task.copy_in(address, std::span(out.bytes).first(out.length)));
  return out;
}

/// Stores as much as there is room for, and how long it is.
Errno put_address(Task& task, const SocketAddress& value, uint64_t address, uint64_t length_at) {
  if (address == 0) return kOk;
  const int room = GUEST_TRY(task.get<int>(length_at));
  if (room < 0) return Errno(EINVAL);
  const size_t count = std::min<size_t>(value.length, static_cast<size_t>(room));
  GUEST_TRY(task.copy_out(address, value.view().first(count)));
  return task.put(length_at, static_cast<int>(value.length));
}

ErrnoOr<uint64_t> zero(Errno error) {
  if (!error.ok()) return error;
  return uint64_t{0};
}

void raise_broken_pipe(Task& task) {
  std::lock_guard lock(task.kernel.lock);
  task.kernel.send_to(task, signal_from(task, *task.process, SIGPIPE, SI_USER));
}

ErrnoOr<std::vector<Vector>> get_vectors(Task& task, const MessageHeader& header) {
  if (header.vector_count > kMaxVectors) return Errno(EMSGSIZE);
  return get_vectors(task, header.vectors, header.vector_count);
}

uint64_t total(std::span<const Vector> vectors) {
  uint64_t sum = 0;
  for (const Vector& vector : vectors) sum += vector.length;
  return sum;
}

/// A place in the program's vectors that moves on as bytes go by.
class Cursor {
 public:
  Cursor(Task& task, std::span<const Vector> vectors) : task_(task), vectors_(vectors) {}
  /// EFAULT when any byte is missing.
  Errno copy_in(std::span<std::byte> to) {
    return move(to.size(), [&](uint64_t at, size_t done, size_t count) {
      return task_.copy_in(at, to.subspan(done, count));
    });
  }
  Errno copy_out(std::span<const std::byte> from) {
    return move(from.size(), [&](uint64_t at, size_t done, size_t count) {
      return task_.copy_out(at, from.subspan(done, count));
    });
  }
  /// EFAULT when the next byte cannot be stored: it must not be taken first.
  Errno probe() {
    while (index_ < vectors_.size() && offset_ == vectors_[index_].length) {
      ++index_;
      offset_ = 0;
    }
    if (index_ == vectors_.size()) return kOk;
    std::byte byte{};
    return task_.copy_in(vectors_[index_].base + offset_, std::span(&byte, 1));
  }

 private:
  template <class Copy>
  Errno move(size_t size, Copy copy) {
    for (size_t done = 0; done < size;) {
      if (index_ == vectors_.size()) return Errno(EFAULT);
      const Vector& here = vectors_[index_];
      const auto count =
          static_cast<size_t>(std::min<uint64_t>(size - done, here.length - offset_));
      if (count != 0) GUEST_TRY(copy(here.base + offset_, done, count));
      done += count;
      offset_ += count;
      if (offset_ == here.length) {
        ++index_;
        offset_ = 0;
      }
    }
    return kOk;
  }
  Task& task_;
  std::span<const Vector> vectors_;
  size_t index_ = 0;
  uint64_t offset_ = 0;
};

std::span<std::byte> bounce(Task& task, size_t size) {
  if (task.bounce.size() < size) task.bounce.resize(size);
  return std::span(task.bounce).first(size);
}

struct Control {
  std::vector<FilePtr> files;
  std::optional<PeerIds> sender;
  std::vector<ControlMessage> others;  // of the levels of IP
};

/// What is for the socket as such, but for those of unix(7), which there are everywhere and
/// ignored.
Errno check_control(const Task& task, const ControlMessage& one) {
  switch (one.type) {
    case SCM_RIGHTS:
    case SCM_CREDENTIALS:
      return kOk;
    case SO_MARK:
      if (!task.credentials.can(kCapNetAdmin)) return Errno(EPERM);
      return one.data.size() == sizeof(uint32_t) ? kOk : Errno(EINVAL);
    default:
      return Errno(EINVAL);
  }
}

/// As the caller's namespaces have them; who is unknown stays that.
PeerIds shown(const Task& task, PeerIds ids) {
  ids.pid = task.shown(ids.pid);
  if (ids.uid != kNoId) ids.uid = task.credentials.shown_uid(ids.uid);
  if (ids.gid != kNoId) ids.gid = task.credentials.shown_gid(ids.gid);
  return ids;
}

/// The program's control messages: files and credentials (unix(7)), each checked; those of packets
/// are the socket's to check.
ErrnoOr<Control> get_control(Task& task, const Socket& socket, const MessageHeader& header) {
  Control out;
  if (header.control == 0 || header.control_length == 0) return out;
  if (header.control_length > kMostControl) return Errno(ENOBUFS);
  std::vector<std::byte> raw(header.control_length);
  GUEST_TRY(task.copy_in(header.control, raw));
  for (size_t at = 0; at + sizeof(ControlHeader) <= raw.size();) {
    ControlHeader one;
    std::memcpy(&one, &raw[at], sizeof one);
    if (one.length < sizeof one || one.length > raw.size() - at) return Errno(EINVAL);
    const std::span<const std::byte> data =
        std::span(raw).subspan(at + sizeof one, one.length - sizeof one);
    at += aligned(one.length);
    if (socket.family() == AF_INET || socket.family() == AF_INET6) {
      ControlMessage other{one.level, one.type, {data.begin(), data.end()}};
      if (one.level == SOL_SOCKET) GUEST_TRY(check_control(task, other));
      if (one.level == IPPROTO_IP || one.level == IPPROTO_IPV6)
        out.others.push_back(std::move(other));
      continue;
    }
    if (one.level != SOL_SOCKET) {
      if (socket.family() == AF_UNIX) continue;
      return Errno(EINVAL);
    }
    if (one.type == SCM_RIGHTS && socket.family() == AF_UNIX) {
      const size_t count = data.size() / sizeof(int32_t);
      if (count + out.files.size() > kMostFiles) return Errno(EINVAL);
      for (size_t i = 0; i < count; ++i) {
        int32_t fd = 0;
        std::memcpy(&fd, &data[i * sizeof fd], sizeof fd);
        FilePtr file = GUEST_TRY(task.files->get(fd));
        out.files.push_back(std::move(file));
      }
    } else if (one.type == SCM_CREDENTIALS && socket.family() == AF_UNIX) {
      if (data.size() != sizeof(PeerIds)) return Errno(EINVAL);
      PeerIds ids;
      std::memcpy(&ids, data.data(), sizeof ids);
      const Credentials& who = task.credentials;
      ids.uid = task.kernel_uid(ids.uid);
      ids.gid = task.kernel_gid(ids.gid);
      if (ids.uid == kNoId || ids.gid == kNoId) return Errno(EINVAL);
      if (ids.pid != task.process->number &&
          !who.can_in(kCapSysAdmin, task.process->pids->user.get()))
        return Errno(EPERM);
      if ((ids.pid = task.meant(ids.pid)) == 0) return Errno(ESRCH);
      const bool own_uid = ids.uid == who.uid || ids.uid == who.euid || ids.uid == who.suid;
      const bool own_gid = ids.gid == who.gid || ids.gid == who.egid || ids.gid == who.sgid;
      if ((!own_uid && !who.has(kCapSetuid)) || (!own_gid && !who.has(kCapSetgid)))
        return Errno(EPERM);
      out.sender = ids;
    } else if (one.type != SCM_RIGHTS) {
      return Errno(EINVAL);
    }
  }
  return out;
}

/// Sends what the vectors hold. A stream is fed a step at a time.
ErrnoOr<uint64_t> send_from(Task& task, Socket& socket, std::span<const Vector> vectors,
                            const SocketAddress* to, Control control, int flags) {
  // Only names are looked up.
  std::optional<Places> places;
  if (to != nullptr) places.emplace(places_of(task));
  Caller caller = task.caller();
  const uint64_t size = total(vectors);
  const size_t longest = socket.longest();
  const auto finish = [&](ErrnoOr<uint64_t> done) {
    if (!done.ok() && done.error().value() == EPIPE && (flags & MSG_NOSIGNAL) == 0 &&
        socket.type() == SOCK_STREAM)
      raise_broken_pipe(task);
    return done;
  };
  if (longest != 0 && size > longest) return Errno(EMSGSIZE);
  if (!control.files.empty()) socket.collect_garbage();
  Cursor cursor(task, vectors);
  Socket::Outgoing out;
  out.to = to;
  out.files = std::move(control.files);
  out.sender = control.sender;
  out.control = control.others;
  out.flags = flags;
  uint64_t done = 0;
  do {
    const auto step =
        static_cast<size_t>(longest != 0 ? size : std::min<uint64_t>(kStep, size - done));
    const std::span<std::byte> buffer = bounce(task, step);
    if (const Errno copied = cursor.copy_in(buffer); !copied.ok())
      return done != 0 ? ErrnoOr<uint64_t>(done) : copied;
    out.data = buffer;
    const ErrnoOr<size_t> sent = socket.send(caller, places ? &*places : nullptr, out);
    if (!sent.ok()) return done != 0 ? ErrnoOr<uint64_t>(done) : finish(sent.error());
    out.files.clear();
    done += sent.value();
    if (sent.value() < step) break;
  } while (done < size);
  return done;
}

/// Receives into the vectors. What comes with the bytes of the first step ends the message.
ErrnoOr<Socket::Incoming> receive_into(Task& task, Socket& socket, std::span<const Vector> vectors,
                                       int flags) {
  Caller caller = task.caller();
  const uint64_t room = total(vectors);
  const size_t longest = socket.longest();
  Cursor cursor(task, vectors);
  Socket::Incoming all;
  for (;;) {
    const uint64_t left = room - all.count;
    const auto step =
        static_cast<size_t>(std::min<uint64_t>(left, longest != 0 ? kLongest : kStep));
    const bool takes_back = socket.takes_back();
    if (step != 0 && !takes_back) GUEST_TRY(cursor.probe());
    const std::span<std::byte> buffer = bounce(task, step);
    // Behind the first step only what is there already, unless all was asked for.
    const int how = all.count != 0 && (flags & MSG_WAITALL) == 0 ? flags | MSG_DONTWAIT : flags;
    ErrnoOr<Socket::Incoming> got = socket.receive(caller, buffer, how);
    if (!got.ok()) {
      if (all.count != 0) return all;
      return got.error();
    }
    Socket::Incoming& in = got.value();
    if (const Errno copied = cursor.copy_out(buffer.first(in.count)); !copied.ok()) {
      bury(std::move(in.files));
      if (takes_back && (flags & MSG_PEEK) == 0)
        socket.unread(buffer.first(in.count), in.sender.value_or(PeerIds{}));
      if (all.count != 0) return all;
      return copied;
    }
    const size_t count = in.count + all.count;
    const bool ends = in.count < step || !in.files.empty() || longest != 0 || count == room ||
                      (flags & MSG_PEEK) != 0 || socket.passes_credentials();
    all = std::move(in);
    all.count = count;
    if (longest == 0) all.whole = count;
    if (ends) return all;
  }
}

/// Control messages for the program, as far as there is room: MSG_CTRUNC when not.
class ControlOut {
 public:
  explicit ControlOut(size_t room) : room_(room) {}
  template <class T>
  void put(int level, int type, const T& value) {
    const auto bytes = std::as_bytes(std::span(&value, 1));
    put_bytes(level, type, bytes);
  }
  void put_bytes(int level, int type, std::span<const std::byte> data) {
    if (room_ - bytes_.size() < sizeof(ControlHeader)) {
      truncated_ = true;
      return;
    }
    const size_t fits = std::min(data.size(), room_ - bytes_.size() - sizeof(ControlHeader));
    if (fits < data.size()) truncated_ = true;
    const ControlHeader header{sizeof(ControlHeader) + fits, level, type};
    const auto raw = std::as_bytes(std::span(&header, 1));
    bytes_.insert(bytes_.end(), raw.begin(), raw.end());
    bytes_.insert(bytes_.end(), data.begin(), data.begin() + static_cast<std::ptrdiff_t>(fits));
    bytes_.resize(std::min(room_, aligned(bytes_.size())));
  }
  /// How many descriptors there is room for.
  size_t room_for_files() const {
    const size_t left = room_ - bytes_.size();
    return left <= sizeof(ControlHeader) ? 0 : (left - sizeof(ControlHeader)) / sizeof(int32_t);
  }
  void truncate() { truncated_ = true; }
  bool truncated() const { return truncated_; }
  std::span<const std::byte> bytes() const { return bytes_; }

 private:
  size_t room_;
  std::vector<std::byte> bytes_;
  bool truncated_ = false;
};

/// Files become descriptors, as far as there is room for both.
void install_files(Task& task, std::vector<FilePtr> files, bool close_on_exec, ControlOut& out) {
  const size_t count = std::min(files.size(), out.room_for_files());
  std::vector<int32_t> numbers;
  for (size_t i = 0; i < count; ++i) {
    const ErrnoOr<int> fd = task.files->add(files[i], close_on_exec);
    if (!fd.ok()) break;
    numbers.push_back(fd.value());
  }
  if (!numbers.empty()) out.put_bytes(SOL_SOCKET, SCM_RIGHTS, std::as_bytes(std::span(numbers)));
  if (numbers.size() < files.size()) out.truncate();
  bury(std::move(files));
}

ErrnoOr<uint64_t> send_message(Task& task, Socket& socket, const MessageHeader& header, int flags) {
  if (header.control_length > INT_MAX) return Errno(ENOBUFS);
  const std::vector<Vector> vectors = GUEST_TRY(get_vectors(task, header));
  SocketAddress to;
  const bool named = header.name != 0 && header.name_length != 0;
  if (header.name_length < 0) return Errno(EINVAL);
  if (named)
    to = GUEST_TRY(
        get_address(task, header.name,
                    std::min(header.name_length, static_cast<int32_t>(SocketAddress::kMost))));
  Control control = GUEST_TRY(get_control(task, socket, header));
  return send_from(task, socket, vectors, named ? &to : nullptr, std::move(control), flags);
}

ErrnoOr<uint64_t> receive_message(Task& task, Socket& socket, MessageHeader& header, int flags) {
  const std::vector<Vector> vectors = GUEST_TRY(get_vectors(task, header));
  if (header.name != 0 && header.name_length < 0) return Errno(EINVAL);
  Socket::Incoming in = GUEST_TRY(receive_into(task, socket, vectors, flags & ~MSG_CMSG_CLOEXEC));
  ControlOut control(header.control == 0 ? 0 : std::min(header.control_length, kMostControl));
  const bool netlink = socket.family() == AF_NETLINK;
  for (const ControlMessage& one : in.control) control.put_bytes(one.level, one.type, one.data);
  if (socket.passes_credentials() && (in.sender || netlink)) {
    const PeerIds ids = shown(task, in.sender.value_or(PeerIds{}));
    control.put(SOL_SOCKET, SCM_CREDENTIALS, ids);
  }
  if (!in.files.empty())
    install_files(task, std::move(in.files), (flags & MSG_CMSG_CLOEXEC) != 0, control);
  if (header.name != 0) {
    const size_t count = std::min<size_t>(in.from.length, static_cast<size_t>(header.name_length));
    GUEST_TRY(task.copy_out(header.name, in.from.view().first(count)));
    header.name_length = static_cast<int32_t>(in.from.length);
  }
  GUEST_TRY(task.copy_out(header.control, control.bytes()));
  header.control_length = control.bytes().size();
  header.flags = (in.flags & (MSG_TRUNC | MSG_EOR)) | (control.truncated() ? MSG_CTRUNC : 0) |
                 (flags & MSG_CMSG_CLOEXEC);
  return (flags & MSG_TRUNC) != 0 && socket.longest() != 0 ? in.whole : in.count;
}

/// What a program that asked for too much gets of its own header back.
Errno put_header(Task& task, uint64_t address, const MessageHeader& header) {
  GUEST_TRY(task.put(address + offsetof(MessageHeader, name_length), header.name_length));
  GUEST_TRY(task.put(address + offsetof(MessageHeader, control_length), header.control_length));
  return task.put(address + offsetof(MessageHeader, flags), header.flags);
}

ErrnoOr<uint64_t> accept_at(Task& task, uint64_t fd, uint64_t address, uint64_t length_at,
                            int flags) {
  if ((flags & ~(SOCK_CLOEXEC | SOCK_NONBLOCK)) != 0) return Errno(EINVAL);
  const SocketPtr socket = GUEST_TRY(get_socket(task, fd));
  GUEST_TRY(task.files->has_room());
  Caller caller = task.caller();
  Socket::Accepted accepted = GUEST_TRY(socket->accept(caller, flags & SOCK_NONBLOCK));
  GUEST_TRY(put_address(task, accepted.peer, address, length_at));
  return add_file(task, std::move(accepted.socket), (flags & SOCK_CLOEXEC) != 0);
}

struct Kind {
  int type = 0;
  int flags = 0;
  bool close_on_exec = false;
};
ErrnoOr<Kind> kind_of(uint64_t raw) {
  constexpr int kTypeMask = 0xf;
  const int value = as_int(raw);
  const int flags = value & ~kTypeMask;
  if ((flags & ~(SOCK_CLOEXEC | SOCK_NONBLOCK)) != 0) return Errno(EINVAL);
  return Kind{value & kTypeMask, flags & SOCK_NONBLOCK, (flags & SOCK_CLOEXEC) != 0};
}

}  // namespace

ErrnoOr<uint64_t> sys_socket(Task& task, Arguments a) {
  const Kind kind = GUEST_TRY(kind_of(a[1]));
  SocketPtr socket = GUEST_TRY(make_socket(task.kernel.network, task.caller(), as_int(a[0]),
                                           kind.type, as_int(a[2]), kind.flags));
  return add_file(task, std::move(socket), kind.close_on_exec);
}

ErrnoOr<uint64_t> sys_socketpair(Task& task, Arguments a) {
  const Kind kind = GUEST_TRY(kind_of(a[1]));
  Caller caller = task.caller();
  SocketPair pair = GUEST_TRY(make_socket_pair(task.kernel.network, caller, as_int(a[0]), kind.type,
                                               as_int(a[2]), kind.flags));
  int32_t numbers[2];
  numbers[0] = GUEST_TRY(task.files->add(pair.first, kind.close_on_exec));
  const ErrnoOr<int> second = task.files->add(pair.second, kind.close_on_exec);
  Errno failed = second.error();
  if (failed.ok()) {
    numbers[1] = second.value();
    failed = task.put(a[3], numbers);
    if (failed.ok()) return uint64_t{0};
    (void)task.files->remove(numbers[1]).ok();
  }
  (void)task.files->remove(numbers[0]).ok();
  return failed;
}

ErrnoOr<uint64_t> sys_bind(Task& task, Arguments a) {
  const SocketPtr socket = GUEST_TRY(get_socket(task, a[0]));
  const SocketAddress address = GUEST_TRY(get_address(task, a[1], as_int(a[2])));
  Caller caller = task.caller();
  return zero(socket->bind(caller, places_of(task), address));
}

ErrnoOr<uint64_t> sys_connect(Task& task, Arguments a) {
  const SocketPtr socket = GUEST_TRY(get_socket(task, a[0]));
  const SocketAddress address = GUEST_TRY(get_address(task, a[1], as_int(a[2])));
  Caller caller = task.caller();
  return zero(socket->connect(caller, places_of(task), address));
}

ErrnoOr<uint64_t> sys_listen(Task& task, Arguments a) {
  const SocketPtr socket = GUEST_TRY(get_socket(task, a[0]));
  Caller caller = task.caller();
  return zero(socket->listen(caller, as_int(a[1])));
}

ErrnoOr<uint64_t> sys_accept(Task& task, Arguments a) {
  return accept_at(task, a[0], a[1], a[2], 0);
}
ErrnoOr<uint64_t> sys_accept4(Task& task, Arguments a) {
  return accept_at(task, a[0], a[1], a[2], as_int(a[3]));
}

ErrnoOr<uint64_t> sys_shutdown(Task& task, Arguments a) {
  const SocketPtr socket = GUEST_TRY(get_socket(task, a[0]));
  return zero(socket->shutdown(as_int(a[1])));
}

ErrnoOr<uint64_t> sys_getsockname(Task& task, Arguments a) {
  const SocketPtr socket = GUEST_TRY(get_socket(task, a[0]));
  const SocketAddress name = GUEST_TRY(socket->name());
  if (a[1] == 0) return Errno(EFAULT);
  return zero(put_address(task, name, a[1], a[2]));
}
ErrnoOr<uint64_t> sys_getpeername(Task& task, Arguments a) {
  const SocketPtr socket = GUEST_TRY(get_socket(task, a[0]));
  const SocketAddress name = GUEST_TRY(socket->peer_name());
  if (a[1] == 0) return Errno(EFAULT);
  return zero(put_address(task, name, a[1], a[2]));
}

ErrnoOr<uint64_t> sys_setsockopt(Task& task, Arguments a) {
  const SocketPtr socket = GUEST_TRY(get_socket(task, a[0]));
  const int length = as_int(a[4]);
  if (length < 0) return Errno(EINVAL);
  constexpr int kMost = 4096;
  std::vector<std::byte> value(static_cast<size_t>(std::min(length, kMost)));
  GUEST_TRY(task.copy_in(a[3], value));
  Caller caller = task.caller();
  return zero(socket->set_option(caller, as_int(a[1]), as_int(a[2]), value));
}

ErrnoOr<uint64_t> sys_getsockopt(Task& task, Arguments a) {
  const SocketPtr socket = GUEST_TRY(get_socket(task, a[0]));
  const int room = GUEST_TRY(task.get<int>(a[4]));
  if (room < 0) return Errno(EINVAL);
  Caller caller = task.caller();
  std::vector<std::byte> value = GUEST_TRY(socket->get_option(caller, as_int(a[1]), as_int(a[2])));
  PeerIds peer;
  if (as_int(a[1]) == SOL_SOCKET && as_int(a[2]) == SO_PEERCRED && value.size() == sizeof peer) {
    std::memcpy(&peer, value.data(), sizeof peer);
    peer = shown(task, peer);
    std::memcpy(value.data(), &peer, sizeof peer);
  }
  const size_t count = std::min(value.size(), static_cast<size_t>(room));
  GUEST_TRY(task.copy_out(a[3], std::span(value).first(count)));
  return zero(task.put(a[4], static_cast<int>(count)));
}

ErrnoOr<uint64_t> sys_sendto(Task& task, Arguments a) {
  const SocketPtr socket = GUEST_TRY(get_socket(task, a[0]));
  SocketAddress to;
  if (a[4] != 0) to = GUEST_TRY(get_address(task, a[4], as_int(a[5])));
  if (static_cast<int64_t>(a[2]) < 0) return Errno(EINVAL);
  const Vector vector{a[1], std::min<uint64_t>(a[2], 0x7ffff000)};
  return send_from(task, *socket, std::span(&vector, 1), a[4] != 0 ? &to : nullptr, {},
                   as_int(a[3]));
}

ErrnoOr<uint64_t> sys_recvfrom(Task& task, Arguments a) {
  const SocketPtr socket = GUEST_TRY(get_socket(task, a[0]));
  if (static_cast<int64_t>(a[2]) < 0) return Errno(EINVAL);
  const Vector vector{a[1], std::min<uint64_t>(a[2], 0x7ffff000)};
  const int flags = as_int(a[3]);
  Socket::Incoming in = GUEST_TRY(receive_into(task, *socket, std::span(&vector, 1), flags));
  bury(std::move(in.files));
  GUEST_TRY(put_address(task, in.from, a[4], a[5]));
  return (flags & MSG_TRUNC) != 0 && socket->longest() != 0 ? in.whole : in.count;
}

ErrnoOr<uint64_t> read_socket(Task& task, Socket& socket, std::span<const IoVector> vectors) {
  if (total(vectors) == 0) return uint64_t{0};
  Socket::Incoming in = GUEST_TRY(receive_into(task, socket, vectors, 0));
  bury(std::move(in.files));
  return in.count;
}
ErrnoOr<uint64_t> write_socket(Task& task, Socket& socket, std::span<const IoVector> vectors) {
  return send_from(task, socket, vectors, nullptr, {}, 0);
}

ErrnoOr<uint64_t> sys_sendmsg(Task& task, Arguments a) {
  const SocketPtr socket = GUEST_TRY(get_socket(task, a[0]));
  const MessageHeader header = GUEST_TRY(task.get<MessageHeader>(a[1]));
  return send_message(task, *socket, header, as_int(a[2]));
}

ErrnoOr<uint64_t> sys_recvmsg(Task& task, Arguments a) {
  const SocketPtr socket = GUEST_TRY(get_socket(task, a[0]));
  MessageHeader header = GUEST_TRY(task.get<MessageHeader>(a[1]));
  const uint64_t done = GUEST_TRY(receive_message(task, *socket, header, as_int(a[2])));
  GUEST_TRY(put_header(task, a[1], header));
  return done;
}

ErrnoOr<uint64_t> sys_sendmmsg(Task& task, Arguments a) {
  const SocketPtr socket = GUEST_TRY(get_socket(task, a[0]));
  const size_t count = std::min<size_t>(static_cast<uint32_t>(a[2]), kMostMessages);
  uint64_t done = 0;
  for (; done < count; ++done) {
    const uint64_t at = a[1] + done * sizeof(MultiHeader);
    const auto one = [&]() -> Errno {
      const MessageHeader header = GUEST_TRY(task.get<MessageHeader>(at));
      const uint64_t sent = GUEST_TRY(send_message(task, *socket, header, as_int(a[3])));
      return task.put(at + offsetof(MultiHeader, count), static_cast<uint32_t>(sent));
    };
    if (const Errno failed = one(); !failed.ok()) {
      if (done != 0) break;
      return failed;
    }
  }
  return done;
}

ErrnoOr<uint64_t> sys_recvmmsg(Task& task, Arguments a) {
  const SocketPtr socket = GUEST_TRY(get_socket(task, a[0]));
  const size_t count = std::min<size_t>(static_cast<uint32_t>(a[2]), kMostMessages);
  int flags = as_int(a[3]);
  // As Linux: looked at between messages, not during one.
  const Deadline deadline = GUEST_TRY(deadline_of(task, a[4]));
  uint64_t done = 0;
  for (; done < count; ++done) {
    const uint64_t at = a[1] + done * sizeof(MultiHeader);
    const auto one = [&]() -> Errno {
      MessageHeader header = GUEST_TRY(task.get<MessageHeader>(at));
      const uint64_t got =
          GUEST_TRY(receive_message(task, *socket, header, flags & ~MSG_WAITFORONE));
      GUEST_TRY(put_header(task, at, header));
      return task.put(at + offsetof(MultiHeader, count), static_cast<uint32_t>(got));
    };
    if (const Errno failed = one(); !failed.ok()) {
      if (done != 0) break;
      return failed;
    }
    if ((flags & MSG_WAITFORONE) != 0) flags |= MSG_DONTWAIT;
    if (deadline && *deadline <= Clock::now()) {
      ++done;
      break;
    }
  }
  return done;
}

}  // namespace fluyt::guest
