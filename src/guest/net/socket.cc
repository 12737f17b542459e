#include "guest/net/socket.h"

#include <fcntl.h>
#include <net/if.h>
#include <poll.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/stat.h>

#include <algorithm>
#include <cstring>

#include "guest/platform/host/io.h"

namespace fluyt::guest {
namespace {

/// The inode behind a socket (sockfs).
class SocketInode final : public Inode {
 public:
  SocketInode() {
    static std::atomic<uint64_t> next{100000};
    number_ = next.fetch_add(1);
    made_.seconds = host::clock_ns(0) / 1'000'000'000;
  }
  uint64_t number() const { return number_; }
  uint32_t type() const override { return S_IFSOCK; }
  ErrnoOr<Stat> stat() override {
    std::lock_guard lock(mutex_);
    Stat stat;
    stat.dev = make_device(0, 8);
    stat.ino = number_;
    stat.mode = mode_;
    stat.uid = uid_;
    stat.gid = gid_;
    stat.accessed = stat.modified = stat.changed = made_;
    return stat;
  }
  Errno set_attributes(const SetAttributes& change) override {
    std::lock_guard lock(mutex_);
    if (change.mode) mode_ = S_IFSOCK | (*change.mode & 07777);
    if (change.uid) uid_ = *change.uid;
    if (change.gid) gid_ = *change.gid;
    return kOk;
  }
  ErrnoOr<FilePtr> open(DentryPtr, int) override { return Errno(ENXIO); }

 private:
  std::mutex mutex_;
  uint64_t number_;
  uint32_t mode_ = S_IFSOCK | 0777;
  uint32_t uid_ = 0;
  uint32_t gid_ = 0;
  Timestamp made_;
};

struct Microtime {
  int64_t seconds = 0;
  int64_t microseconds = 0;
};

constexpr int kLeastBuffer = 2304;

constexpr int kSoReceiveTimeoutNew = 66;
constexpr int kSoSendTimeoutNew = 67;

}  // namespace

PeerIds ids_of(const Caller& caller) {
  return {caller.pid, caller.credentials.euid, caller.credentials.egid};
}

Socket::Socket(std::shared_ptr<Network> network, int family, int type, int protocol, int flags)
    : File(nullptr, std::make_shared<SocketInode>(), O_RDWR | flags),
      network_(std::move(network)),
      family_(family),
      type_(type),
      protocol_(protocol),
      number_(static_cast<SocketInode&>(*inode()).number()) {
  network_->enter(*this);
}

Socket::~Socket() { network_->leave(*this); }

Errno Socket::listen(Caller&, int) { return Errno(EOPNOTSUPP); }
ErrnoOr<Socket::Accepted> Socket::accept(Caller&, int) { return Errno(EOPNOTSUPP); }

ErrnoOr<size_t> Socket::read(Caller& caller, std::span<std::byte> to, int64_t*) {
  if (to.empty() && longest() == 0) return size_t{0};
  Incoming in = GUEST_TRY(receive(caller, to, 0));
  bury(std::move(in.files));
  return in.count;
}

ErrnoOr<size_t> Socket::write(Caller& caller, std::span<const std::byte> from, int64_t*) {
  Outgoing out;
  out.data = from;
  return send(caller, nullptr, out);
}

ErrnoOr<uint64_t> Socket::ioctl(Caller& caller, uint32_t request, uint64_t argument) {
  int value = 0;
  switch (request) {
    case FIONREAD:
      value = static_cast<int>(GUEST_TRY(readable_bytes()));
      break;
    case TIOCOUTQ:
      value = static_cast<int>(unread_by_peer());
      break;
    default:
      return interface_ioctl(*network_, caller, request, argument);
  }
  if (caller.memory->write(argument, std::as_bytes(std::span(&value, 1))) != sizeof value)
    return Errno(EFAULT);
  return uint64_t{0};
}

bool Socket::dont_wait(int flags) const { return nonblocking() || (flags & MSG_DONTWAIT) != 0; }

Deadline Socket::deadline(int64_t timeout_ns) {
  if (timeout_ns == 0) return {};
  return Clock::now() + std::chrono::nanoseconds(timeout_ns);
}

Errno Socket::waited(Errno error, const Deadline& deadline) {
  if (error.value() == ETIMEDOUT) return Errno(EAGAIN);
  if (error.value() == kRestartSys && deadline) return Errno(EINTR);
  return error;
}

ErrnoOr<int> Socket::as_number(std::span<const std::byte> value) {
  int out = 0;
  if (value.size() < sizeof out) return Errno(EINVAL);
  std::memcpy(&out, value.data(), sizeof out);
  return out;
}

std::vector<std::byte> Socket::from_number(int value) {
  const auto bytes = std::as_bytes(std::span(&value, 1));
  return {bytes.begin(), bytes.end()};
}

ErrnoOr<bool> Socket::keep_option(std::span<const OptionRule> table, int level, int option,
                                  std::span<const std::byte> value) {
  for (const OptionRule& kept : table) {
    if (kept.level != level || kept.option != option) continue;
    const int number = GUEST_TRY(checked(kept, value));
    std::lock_guard lock(options_mutex_);
    options_[{level, option}] = number;
    return true;
  }
  return false;
}

std::optional<int> Socket::kept_option(std::span<const OptionRule> table, int level, int option) {
  for (const OptionRule& kept : table) {
    if (kept.level != level || kept.option != option) continue;
    std::lock_guard lock(options_mutex_);
    const auto found = options_.find({level, option});
    return found == options_.end() ? kept.initial : found->second;
  }
  return std::nullopt;
}

namespace {
constexpr int kWhatever = 0x7fffffff;
/// Options of every socket that change nothing here.
constexpr OptionRule kKept[] = {
    {SOL_SOCKET, SO_DEBUG, OptionRule::kBool, 0, 1, 0},
    {SOL_SOCKET, SO_KEEPALIVE, OptionRule::kBool, 0, 1, 0},
    {SOL_SOCKET, SO_OOBINLINE, OptionRule::kBool, 0, 1, 0},
    {SOL_SOCKET, SO_DONTROUTE, OptionRule::kBool, 0, 1, 0},
    {SOL_SOCKET, SO_PRIORITY, OptionRule::kRange, -kWhatever - 1, kWhatever, 0},
    {SOL_SOCKET, SO_MARK, OptionRule::kRange, -kWhatever - 1, kWhatever, 0},
    {SOL_SOCKET, SO_BUSY_POLL, OptionRule::kRange, 0, kWhatever, 0},
    {SOL_SOCKET, SO_NO_CHECK, OptionRule::kBool, 0, 1, 0},
    {SOL_SOCKET, SO_LOCK_FILTER, OptionRule::kBool, 0, 1, 0},
    {SOL_SOCKET, SO_SELECT_ERR_QUEUE, OptionRule::kBool, 0, 1, 0}};
/// How SO_TIMESTAMP and SO_TIMESTAMPNS were renumbered for 64-bit times.
constexpr int kSoTimestampNew = 63;
constexpr int kSoTimestampNsNew = 64;
}  // namespace

bool Socket::keeps_alive() { return kept_option(kKept, SOL_SOCKET, SO_KEEPALIVE) == 1; }

void Socket::tell_time(int64_t came_ns, std::vector<ControlMessage>& out) const {
  const int which = stamp_.load();
  if (which == 0) return;
  if (came_ns == 0) came_ns = host::clock_ns(0);
  constexpr int64_t kSecond = 1'000'000'000;
  const bool fine = which == SO_TIMESTAMPNS || which == kSoTimestampNsNew;
  const int64_t time[2] = {came_ns / kSecond, came_ns % kSecond / (fine ? 1 : 1000)};
  out.push_back(ControlMessage::of(SOL_SOCKET, which, time));
}

Errno Socket::set_option(Caller& caller, int level, int option, std::span<const std::byte> value) {
  if (level != SOL_SOCKET) return Errno(EOPNOTSUPP);
  switch (option) {
    case SO_LINGER: {
      struct linger wanted{};
      if (value.size() < sizeof wanted) return Errno(EINVAL);
      std::memcpy(&wanted, value.data(), sizeof wanted);
      linger_ = wanted.l_onoff != 0;
      linger_s_ = wanted.l_onoff != 0 ? wanted.l_linger : linger_s_.load();
      return kOk;
    }
    case SO_RCVTIMEO:
    case SO_SNDTIMEO:
    case kSoReceiveTimeoutNew:
    case kSoSendTimeoutNew: {
      Microtime time;
      if (value.size() < sizeof time) return Errno(EINVAL);
      std::memcpy(&time, value.data(), sizeof time);
      if (time.microseconds < 0 || time.microseconds >= 1'000'000) return Errno(EDOM);
      constexpr int64_t kForEver = int64_t{1} << 31;
      int64_t ns = 0;
      if (time.seconds < 0)
        ns = 1;  // Linux: no time at all
      else if (time.seconds < kForEver)
        ns = time.seconds * 1'000'000'000 + time.microseconds * 1000;
      (option == SO_RCVTIMEO || option == kSoReceiveTimeoutNew ? receive_timeout_ns_
                                                               : send_timeout_ns_) = ns;
      return kOk;
    }
    default:
      break;
  }
  const int number = GUEST_TRY(as_number(value));
  switch (option) {
    case SO_SNDBUFFORCE:
    case SO_RCVBUFFORCE:
      if (!caller.credentials.can(kCapNetAdmin)) return Errno(EPERM);
      [[fallthrough]];
    case SO_SNDBUF:
    case SO_RCVBUF: {
      // Linux doubles what is asked for, to make room for its own bookkeeping.
      constexpr int kMostAsked = 212992;
      const int asked = number < 0 ? kMostAsked : std::min(number, kMostAsked);
      const bool sending = option == SO_SNDBUF || option == SO_SNDBUFFORCE;
      if (sending)
        send_buffer_ = std::max(asked * 2, 2 * kLeastBuffer);
      else
        receive_buffer_ = std::max(asked * 2, kLeastBuffer);
      return kOk;
    }
    case SO_REUSEADDR:
      reuse_address_ = number != 0;
      return kOk;
    case SO_REUSEPORT:
      if (family_ == AF_UNIX) return Errno(EOPNOTSUPP);
      reuse_port_ = number != 0;
      return kOk;
    case SO_BROADCAST:
      broadcast_ = number != 0;
      return kOk;
    case SO_PASSCRED:
      if (family_ != AF_UNIX && family_ != AF_NETLINK) return Errno(EOPNOTSUPP);
      pass_credentials_ = number != 0;
      return kOk;
    case SO_RCVLOWAT:
      if (number < 0) {
        low_water_ = kWhatever;
      } else {
        low_water_ = std::max(number, 1);
      }
      return kOk;
    case SO_RXQ_OVFL:
      tells_drops_ = number != 0;
      return kOk;
    case SO_TIMESTAMP:
    case SO_TIMESTAMPNS:
    case kSoTimestampNew:
    case kSoTimestampNsNew:
      stamp_ = number != 0 ? option : 0;
      return kOk;
    case SO_BSDCOMPAT:
      return kOk;
    case SO_DETACH_FILTER:
      return Errno(ENOENT);
    case SO_PRIORITY:
      if ((number < 0 || number > 6) && !caller.credentials.can(kCapNetAdmin)) return Errno(EPERM);
      break;
    case SO_DEBUG:
      if (number != 0 && !caller.credentials.can(kCapNetAdmin)) return Errno(EACCES);
      break;
    case SO_MARK:
      if (!caller.credentials.can(kCapNetAdmin)) return Errno(EPERM);
      break;
    case SO_TYPE:
    case SO_ERROR:
    case SO_PROTOCOL:
    case SO_DOMAIN:
    case SO_ACCEPTCONN:
    case SO_SNDLOWAT:
    case SO_PEERCRED:
      return Errno(ENOPROTOOPT);
    default:
      break;
  }
  return GUEST_TRY(keep_option(kKept, level, option, value)) ? kOk : Errno(ENOPROTOOPT);
}

ErrnoOr<std::vector<std::byte>> Socket::get_option(Caller&, int level, int option) {
  if (level != SOL_SOCKET) return Errno(EOPNOTSUPP);
  const auto raw = [](const auto& value) {
    const auto bytes = std::as_bytes(std::span(&value, 1));
    return std::vector<std::byte>(bytes.begin(), bytes.end());
  };
  switch (option) {
    case SO_TYPE:
      return from_number(type_);
    case SO_DOMAIN:
      return from_number(family_);
    case SO_PROTOCOL:
      return from_number(protocol_);
    case SO_ERROR:
      return from_number(take_error());
    case SO_ACCEPTCONN:
      return from_number(is_listening() ? 1 : 0);
    case SO_SNDBUF:
      return from_number(send_buffer_);
    case SO_RCVBUF:
      return from_number(receive_buffer_);
    case SO_REUSEADDR:
      return from_number(reuse_address_);
    case SO_REUSEPORT:
      return from_number(reuse_port_);
    case SO_BROADCAST:
      return from_number(broadcast_);
    case SO_PASSCRED:
      if (family_ != AF_UNIX && family_ != AF_NETLINK) return Errno(EOPNOTSUPP);
      return from_number(pass_credentials_);
    case SO_RCVLOWAT:
      return from_number(low_water_);
    case SO_SNDLOWAT:
      return from_number(1);
    case SO_LINGER: {
      struct linger value{};
      value.l_onoff = linger_ ? 1 : 0;
      value.l_linger = linger_s_;
      return raw(value);
    }
    case SO_RCVTIMEO:
    case SO_SNDTIMEO:
    case kSoReceiveTimeoutNew:
    case kSoSendTimeoutNew: {
      const int64_t ns = option == SO_RCVTIMEO || option == kSoReceiveTimeoutNew
                             ? receive_timeout_ns_.load()
                             : send_timeout_ns_.load();
      return raw(Microtime{ns / 1'000'000'000, ns % 1'000'000'000 / 1000});
    }
    case SO_PEERCRED:
      return raw(GUEST_TRY(peer_ids()));
    case SO_COOKIE:
      return raw(number_);
    case SO_RXQ_OVFL:
      return from_number(tells_drops_);
    case SO_TIMESTAMP:
    case SO_TIMESTAMPNS:
    case kSoTimestampNew:
    case kSoTimestampNsNew:
      return from_number(stamp_ == option ? 1 : 0);
    case SO_BSDCOMPAT:
    case SO_INCOMING_NAPI_ID:
      return from_number(0);
    case SO_BPF_EXTENSIONS:
      return from_number(64);
    case SO_PEERNAME: {
      const SocketAddress peer = GUEST_TRY(peer_name());
      return std::vector<std::byte>(peer.view().begin(), peer.view().end());
    }
    case SO_MEMINFO: {
      // sock_diag(7): used and most of receiving, of sending, and what only Linux counts.
      uint32_t words[9] = {};
      if (const ErrnoOr<size_t> waiting = readable_bytes(); waiting.ok())
        words[0] = static_cast<uint32_t>(waiting.value());
      words[1] = static_cast<uint32_t>(receive_buffer_.load());
      words[3] = static_cast<uint32_t>(send_buffer_.load());
      return raw(words);
    }
    default:
      break;
  }
  const std::optional<int> kept = kept_option(kKept, level, option);
  if (!kept) return Errno(ENOPROTOOPT);
  return from_number(*kept);
}

}  // namespace fluyt::guest
