#include "guest/platform/host/net_broker.h"

#include <ifaddrs.h>
#include <linux/audit.h>
#include <linux/capability.h>
#include <linux/filter.h>
#include <linux/if_packet.h>
#include <linux/netlink.h>
#include <linux/rtnetlink.h>
#include <linux/seccomp.h>
#include <net/if.h>
#include <netinet/in.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <bit>
#include <cstddef>
#include <cstring>
#include <initializer_list>

#include "sys/socket.h"

namespace fluyt::guest::host {
namespace {

struct NetReply {
  int32_t error = 0;
};

uint16_t family_of(const NetAddress& address) {
  uint16_t out = 0;
  if (address.length >= sizeof out) std::memcpy(&out, address.bytes.data(), sizeof out);
  return out;
}

bool is_well_formed(const NetAddress& address) {
  if (address.length == 0) return true;
  switch (family_of(address)) {
    case AF_INET:
      return address.length == sizeof(sockaddr_in);
    case AF_INET6:
      return address.length == sizeof(sockaddr_in6);
    default:
      return false;
  }
}

/// Of the last 4 or all 16 bytes of an address.
bool is_loopback4(const uint8_t* at) { return at[0] == 127; }
bool is_zero(const uint8_t* at, size_t count) {
  return std::all_of(at, at + count, [](uint8_t byte) { return byte == 0; });
}

struct Reach {
  bool loopback = false;
  bool any = false;
};
Reach reach_of(const NetAddress& address) {
  if (family_of(address) == AF_INET) {
    sockaddr_in raw;
    std::memcpy(&raw, address.bytes.data(), sizeof raw);
    const auto* at = reinterpret_cast<const uint8_t*>(&raw.sin_addr);
    return {is_loopback4(at), is_zero(at, 4)};
  }
  sockaddr_in6 raw;
  std::memcpy(&raw, address.bytes.data(), sizeof raw);
  const uint8_t* at = raw.sin6_addr.s6_addr;
  // Mapped and compatible addresses reach what IPv4 reaches.
  const bool maps = is_zero(at, 10) && ((at[10] == 0xff && at[11] == 0xff) || is_zero(at + 10, 2));
  const bool one = is_zero(at, 15) && at[15] == 1;
  return {one || (maps && is_loopback4(at + 12)), maps && is_zero(at + 12, 4)};
}

/// The process itself: one request after the other, one descriptor each.
class Maker {
 public:
  Maker(sys::FdRef socket, HostLoopback loopback) : socket_(socket), loopback_(loopback) {}

  [[noreturn]] void serve() {
    for (;;) {
      NetRequest request;
      const ssize_t got = recv(socket_.raw(), &request, sizeof request, 0);
      if (got < 0 && errno == EINTR) continue;
      if (got != static_cast<ssize_t>(sizeof request)) _exit(0);
      sys::Fd made;
      const int error = carry_out(request, made);
      if (!answer(error, made)) _exit(0);
    }
  }

 private:
  static const sockaddr* raw(const NetAddress& address) {
    return reinterpret_cast<const sockaddr*>(address.bytes.data());
  }
  static bool on(int fd, int level, int option) {
    const int one = 1;
    return setsockopt(fd, level, option, &one, sizeof one) == 0;
  }

  int carry_out(const NetRequest& request, sys::Fd& made) const {
    if (const int refused = refusal(request, loopback_); refused != 0) return refused;
    const uint16_t family =
        request.local.length != 0 ? family_of(request.local) : family_of(request.remote);
    sys::Fd fd(socket(family, static_cast<int>(request.type) | SOCK_CLOEXEC | SOCK_NONBLOCK,
                      static_cast<int>(request.protocol)));
    if (!fd.valid()) return errno;
    const int number = fd.raw();
    if ((request.flags & NetRequest::kReuseAddress) != 0 && !on(number, SOL_SOCKET, SO_REUSEADDR))
      return errno;
    if ((request.flags & NetRequest::kReusePort) != 0 && !on(number, SOL_SOCKET, SO_REUSEPORT))
      return errno;
    if ((request.flags & NetRequest::kBroadcast) != 0 && !on(number, SOL_SOCKET, SO_BROADCAST))
      return errno;
    if (family == AF_INET6 && request.protocol == 0) {
      const int only = (request.flags & NetRequest::kV6Only) != 0 ? 1 : 0;
      if (setsockopt(number, IPPROTO_IPV6, IPV6_V6ONLY, &only, sizeof only) != 0) return errno;
    }
    if (request.local.length != 0 && bind(number, raw(request.local), request.local.length) != 0)
      return errno;
    if (request.op == NetRequest::kListen && listen(number, request.backlog) != 0) return errno;
    if (request.op == NetRequest::kConnect &&
        connect(number, raw(request.remote), request.remote.length) != 0 && errno != EINPROGRESS)
      return errno;
    made = std::move(fd);
    return 0;
  }

  bool answer(int error, const sys::Fd& made) const {
    const NetReply reply{error};
    std::vector<sys::FdRef> fds;
    if (made.valid()) fds.push_back(made);
    return sys::send_with_fds(
               socket_, std::string_view(reinterpret_cast<const char*>(&reply), sizeof reply), fds)
        .ok();
  }

  sys::FdRef socket_;
  HostLoopback loopback_;
};

/// Only what the Maker calls; socket with its arguments.
bool confine_maker() {
  constexpr uint32_t kAllowed[] = {SYS_recvfrom, SYS_sendmsg,    SYS_bind,        SYS_listen,
                                   SYS_connect,  SYS_setsockopt, SYS_close,       SYS_brk,
                                   SYS_munmap,   SYS_exit_group, SYS_rt_sigreturn};
  std::vector<sock_filter> code;
  const auto add = [&code](int what, uint32_t k, uint8_t yes = 0, uint8_t no = 0) {
    code.push_back({static_cast<uint16_t>(what), yes, no, k});
  };
  const auto low_half = [](int argument) {
    return static_cast<uint32_t>(offsetof(seccomp_data, args)) +
           8 * static_cast<uint32_t>(argument);
  };
  const auto kill_unless = [&](std::initializer_list<uint32_t> values) {
    auto left = static_cast<uint8_t>(values.size());
    for (const uint32_t value : values) add(BPF_JMP | BPF_JEQ | BPF_K, value, left--, 0);
    add(BPF_RET | BPF_K, SECCOMP_RET_KILL_PROCESS);
  };
  add(BPF_LD | BPF_W | BPF_ABS, offsetof(seccomp_data, arch));
  add(BPF_JMP | BPF_JEQ | BPF_K, AUDIT_ARCH_X86_64, 1, 0);
  add(BPF_RET | BPF_K, SECCOMP_RET_KILL_PROCESS);
  add(BPF_LD | BPF_W | BPF_ABS, offsetof(seccomp_data, nr));
  for (uint32_t number : kAllowed) {
    add(BPF_JMP | BPF_JEQ | BPF_K, number, 0, 1);
    add(BPF_RET | BPF_K, SECCOMP_RET_ALLOW);
  }
  add(BPF_JMP | BPF_JEQ | BPF_K, SYS_socket, 1, 0);
  add(BPF_RET | BPF_K, SECCOMP_RET_KILL_PROCESS);
  add(BPF_LD | BPF_W | BPF_ABS, low_half(0));
  kill_unless({AF_INET, AF_INET6});
  add(BPF_LD | BPF_W | BPF_ABS, low_half(1));
  kill_unless(
      {SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK});
  add(BPF_LD | BPF_W | BPF_ABS, low_half(2));
  kill_unless({0, IPPROTO_ICMP, IPPROTO_ICMPV6});
  add(BPF_RET | BPF_K, SECCOMP_RET_ALLOW);
  sock_fprog program{static_cast<unsigned short>(code.size()), code.data()};
  return prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program) == 0;
}

/// Ports below 1024 may be a container's to have; nothing else of root's is needed.
bool keep_port_capability() {
  __user_cap_header_struct header{_LINUX_CAPABILITY_VERSION_3, 0};
  __user_cap_data_struct have[2] = {};
  if (syscall(SYS_capget, &header, have) != 0) return false;
  const uint32_t kept = have[0].permitted & (1U << CAP_NET_BIND_SERVICE);
  const __user_cap_data_struct wanted[2] = {{kept, kept, 0}, {0, 0, 0}};
  return syscall(SYS_capset, &header, wanted) == 0;
}

Errno outcome(long value) { return value >= 0 ? kOk : Errno(errno); }

}  // namespace

int refusal(const NetRequest& request, HostLoopback loopback) {
  if (request.type != SOCK_STREAM && request.type != SOCK_DGRAM) return EPROTONOSUPPORT;
  if (!is_well_formed(request.local) || !is_well_formed(request.remote)) return EINVAL;
  if (request.protocol != 0) {
    // Echo requests go out from anywhere; there is nothing to listen on.
    if (request.type != SOCK_DGRAM || request.op != NetRequest::kBind) return EPROTONOSUPPORT;
    const uint32_t own =
        family_of(request.local) == AF_INET ? uint32_t{IPPROTO_ICMP} : uint32_t{IPPROTO_ICMPV6};
    if (request.local.length == 0 || request.protocol != own) return EPROTONOSUPPORT;
  }
  const bool has_local = request.local.length != 0;
  const bool has_remote = request.remote.length != 0;
  const bool ours = loopback == HostLoopback::kOurs;
  if (has_local && reach_of(request.local).loopback && !ours) return EADDRNOTAVAIL;
  switch (request.op) {
    case NetRequest::kConnect: {
      if (!has_remote) return EINVAL;
      if (has_local && family_of(request.local) != family_of(request.remote)) return EINVAL;
      const Reach reach = reach_of(request.remote);
      return (reach.loopback && !ours) || reach.any ? ENETUNREACH : 0;
    }
    case NetRequest::kListen:
      if (request.type != SOCK_STREAM) return EINVAL;
      [[fallthrough]];
    case NetRequest::kBind:
      return has_local && !has_remote ? 0 : EINVAL;
    default:
      return EINVAL;
  }
}

Result<std::unique_ptr<NetBroker>> NetBroker::start(HostLoopback loopback) {
  Child child = FLUYT_TRY(Child::start("rung-net", {}, [&](sys::FdRef socket) {
    if (keep_port_capability() && prctl(PR_SET_DUMPABLE, 0, 0, 0, 0) == 0 && confine_maker())
      Maker(socket, loopback).serve();
  }));
  return std::unique_ptr<NetBroker>(new NetBroker(std::move(child)));
}

ErrnoOr<sys::Fd> NetBroker::make(const NetRequest& request) {
  std::lock_guard lock(mutex_);
  if (::sendto(child_.socket().raw(), &request, sizeof request, MSG_NOSIGNAL, nullptr, 0) !=
      static_cast<ssize_t>(sizeof request))
    return Errno(ENETDOWN);
  NetReply reply;
  auto got = sys::receive_with_fds(child_.socket(), reinterpret_cast<char*>(&reply), sizeof reply);
  // Without an errno: the descriptor found no place with us.
  if (!got.ok()) return Errno(got.error().errno_value() != 0 ? ENETDOWN : EMFILE);
  if (got->size != sizeof reply) return Errno(ENETDOWN);
  if (reply.error != 0) return Errno(reply.error);
  if (got->fds.size() != 1) return Errno(EMFILE);
  return std::move(got->fds.front());
}

ErrnoOr<size_t> net_send(sys::FdRef fd, std::span<const std::byte> data, const NetAddress* to,
                         std::span<const ControlMessage> control) {
  NetAddress name = to == nullptr ? NetAddress{} : *to;
  iovec part{const_cast<std::byte*>(data.data()), data.size()};
  msghdr message{};
  message.msg_name = to == nullptr ? nullptr : name.bytes.data();
  message.msg_namelen = to == nullptr ? 0 : name.length;
  message.msg_iov = &part;
  message.msg_iovlen = 1;
  std::vector<std::byte> raw;
  for (const ControlMessage& one : control) {
    if (one.level != IPPROTO_IP && one.level != IPPROTO_IPV6) continue;
    const size_t at = raw.size();
    raw.resize(at + CMSG_SPACE(one.data.size()));
    const cmsghdr header{CMSG_LEN(one.data.size()), one.level, one.type};
    std::memcpy(&raw[at], &header, sizeof header);
    std::ranges::copy(one.data, raw.begin() + static_cast<std::ptrdiff_t>(at + CMSG_LEN(0)));
  }
  message.msg_control = raw.empty() ? nullptr : raw.data();
  message.msg_controllen = raw.size();
  for (;;) {
    const ssize_t sent = ::sendmsg(fd.raw(), &message, MSG_NOSIGNAL | MSG_DONTWAIT);
    if (sent >= 0) return static_cast<size_t>(sent);
    if (errno != EINTR) return Errno(errno);
  }
}

namespace {
std::vector<ControlMessage> controls_of(msghdr& message) {
  std::vector<ControlMessage> out;
  for (cmsghdr* at = CMSG_FIRSTHDR(&message); at != nullptr; at = CMSG_NXTHDR(&message, at)) {
    if (at->cmsg_level != IPPROTO_IP && at->cmsg_level != IPPROTO_IPV6) continue;
    const auto* data = reinterpret_cast<const std::byte*>(CMSG_DATA(at));
    out.push_back({at->cmsg_level, at->cmsg_type, {data, data + at->cmsg_len - CMSG_LEN(0)}});
  }
  return out;
}
}  // namespace

ErrnoOr<NetReceived> net_receive(sys::FdRef fd, std::span<std::byte> to, bool peek,
                                 Details details) {
  NetReceived out;
  iovec data{to.data(), to.size()};
  alignas(cmsghdr) char control[512];
  for (;;) {
    msghdr message{};
    message.msg_name = out.from.bytes.data();
    message.msg_namelen = static_cast<socklen_t>(out.from.bytes.size());
    message.msg_iov = &data;
    message.msg_iovlen = 1;
    if (details == Details::kControl) {
      message.msg_control = control;
      message.msg_controllen = sizeof control;
    }
    const ssize_t got =
        recvmsg(fd.raw(), &message, MSG_DONTWAIT | MSG_CMSG_CLOEXEC | (peek ? MSG_PEEK : 0));
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) return Errno(errno);
    out.count = out.whole = static_cast<size_t>(got);
    if ((message.msg_flags & MSG_TRUNC) != 0) ++out.whole;
    out.from.length = std::min<uint32_t>(message.msg_namelen, 28);
    if (details == Details::kControl) out.control = controls_of(message);
    return out;
  }
}

ErrnoOr<sys::Fd> net_accept(sys::FdRef fd, NetAddress* peer) {
  socklen_t length = static_cast<socklen_t>(peer->bytes.size());
  for (;;) {
    sys::Fd made(accept4(fd.raw(), reinterpret_cast<sockaddr*>(peer->bytes.data()), &length,
                         SOCK_CLOEXEC | SOCK_NONBLOCK));
    if (!made.valid() && errno == EINTR) continue;
    if (!made.valid()) return Errno(errno);
    peer->length = std::min<uint32_t>(length, 28);
    return made;
  }
}

Errno net_shut_down(sys::FdRef fd, int how) { return outcome(shutdown(fd.raw(), how)); }

namespace {
template <class Call>
ErrnoOr<NetAddress> address_by(sys::FdRef fd, Call call) {
  NetAddress out;
  socklen_t length = static_cast<socklen_t>(out.bytes.size());
  if (call(fd.raw(), reinterpret_cast<sockaddr*>(out.bytes.data()), &length) != 0)
    return Errno(errno);
  out.length = std::min<uint32_t>(length, 28);
  return out;
}
}  // namespace
ErrnoOr<NetAddress> net_name(sys::FdRef fd) { return address_by(fd, getsockname); }
ErrnoOr<NetAddress> net_peer(sys::FdRef fd) { return address_by(fd, getpeername); }

int net_error(sys::FdRef fd) {
  int error = 0;
  socklen_t length = sizeof error;
  return getsockopt(fd.raw(), SOL_SOCKET, SO_ERROR, &error, &length) == 0 ? error : errno;
}

Errno net_set_option(sys::FdRef fd, int level, int option, int value) {
  return outcome(setsockopt(fd.raw(), level, option, &value, sizeof value));
}

Errno net_set_bytes(sys::FdRef fd, int level, int option, std::span<const std::byte> value) {
  return outcome(
      setsockopt(fd.raw(), level, option, value.data(), static_cast<socklen_t>(value.size())));
}

ErrnoOr<size_t> net_get_bytes(sys::FdRef fd, int level, int option, std::span<std::byte> to) {
  auto length = static_cast<socklen_t>(to.size());
  if (getsockopt(fd.raw(), level, option, to.data(), &length) != 0) return Errno(errno);
  return std::min<size_t>(length, to.size());
}

namespace {

std::array<uint8_t, 16> mapped(const void* v4) {
  std::array<uint8_t, 16> out{};
  out[10] = out[11] = 0xff;
  std::memcpy(&out[12], v4, 4);
  return out;
}

uint8_t bits_of(const uint8_t* mask, size_t count) {
  int bits = 0;
  for (size_t i = 0; i < count; ++i) bits += std::popcount(mask[i]);
  return static_cast<uint8_t>(bits);
}

Result<std::vector<NetRoute>> main_routes() {
  sys::Fd fd(socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_ROUTE));
  if (!fd.valid()) return Error::from_errno(errno, "socket(NETLINK_ROUTE)");
  struct {
    nlmsghdr header;
    rtmsg route;
  } ask{};
  ask.header.nlmsg_len = sizeof ask;
  ask.header.nlmsg_type = RTM_GETROUTE;
  ask.header.nlmsg_flags = NLM_F_REQUEST | NLM_F_DUMP;
  if (send(fd.raw(), &ask, sizeof ask, 0) < 0)
    return Error::from_errno(errno, "send(RTM_GETROUTE)");
  std::vector<NetRoute> out;
  alignas(nlmsghdr) static char buffer[65536];
  for (;;) {
    const ssize_t got = recv(fd.raw(), buffer, sizeof buffer, 0);
    if (got < 0) return Error::from_errno(errno, "recv(RTM_GETROUTE)");
    auto left = static_cast<unsigned>(got);
    for (auto* at = reinterpret_cast<nlmsghdr*>(buffer); NLMSG_OK(at, left);
         at = NLMSG_NEXT(at, left)) {
      if (at->nlmsg_type == NLMSG_DONE || at->nlmsg_type == NLMSG_ERROR) return out;
      if (at->nlmsg_type != RTM_NEWROUTE) continue;
      const auto* message = static_cast<const rtmsg*>(NLMSG_DATA(at));
      if (message->rtm_table != RT_TABLE_MAIN || message->rtm_type != RTN_UNICAST) continue;
      if (message->rtm_family != AF_INET && message->rtm_family != AF_INET6) continue;
      NetRoute route;
      route.v4 = message->rtm_family == AF_INET;
      route.prefix = message->rtm_dst_len;
      const uint32_t zero = 0;
      if (route.v4) route.to = route.gateway = mapped(&zero);
      auto attributes = static_cast<unsigned>(RTM_PAYLOAD(at));
      for (const auto* one = RTM_RTA(message); RTA_OK(one, attributes);
           one = RTA_NEXT(one, attributes)) {
        const void* data = RTA_DATA(one);
        const size_t size = RTA_PAYLOAD(one);
        const auto address = [&](std::array<uint8_t, 16>& to) {
          if (route.v4 && size == 4) to = mapped(data);
          if (!route.v4 && size == 16) std::memcpy(to.data(), data, 16);
        };
        if (one->rta_type == RTA_DST) address(route.to);
        if (one->rta_type == RTA_GATEWAY) address(route.gateway);
        if (one->rta_type == RTA_OIF && size == 4) std::memcpy(&route.index, data, 4);
        if (one->rta_type == RTA_PRIORITY && size == 4) std::memcpy(&route.metric, data, 4);
      }
      out.push_back(route);
    }
  }
}

}  // namespace

Result<NetView> look_at_network() {
  NetView out;
  ifaddrs* all = nullptr;
  if (getifaddrs(&all) != 0) return Error::from_errno(errno, "getifaddrs");
  const auto device = [&out](const char* name) -> NetDevice& {
    for (NetDevice& known : out.devices)
      if (known.name == name) return known;
    out.devices.emplace_back().name = name;
    return out.devices.back();
  };
  const sys::Fd asker(socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0));
  for (const ifaddrs* at = all; at != nullptr; at = at->ifa_next) {
    if (at->ifa_addr == nullptr) continue;
    NetDevice& here = device(at->ifa_name);
    here.flags = at->ifa_flags;
    if (at->ifa_addr->sa_family == AF_PACKET) {
      const auto* link = reinterpret_cast<const sockaddr_ll*>(at->ifa_addr);
      here.index = link->sll_ifindex;
      here.kind = link->sll_hatype;
      if (link->sll_halen == 6) std::memcpy(here.hardware.data(), link->sll_addr, 6);
      ifreq request{};
      std::strncpy(request.ifr_name, at->ifa_name, IFNAMSIZ - 1);
      if (ioctl(asker.raw(), SIOCGIFMTU, &request) == 0)
        here.mtu = static_cast<uint32_t>(request.ifr_mtu);
    } else if (at->ifa_addr->sa_family == AF_INET && at->ifa_netmask != nullptr) {
      const auto* address = reinterpret_cast<const sockaddr_in*>(at->ifa_addr);
      const auto* mask = reinterpret_cast<const sockaddr_in*>(at->ifa_netmask);
      here.addresses.push_back({mapped(&address->sin_addr),
                                bits_of(reinterpret_cast<const uint8_t*>(&mask->sin_addr), 4)});
    } else if (at->ifa_addr->sa_family == AF_INET6 && at->ifa_netmask != nullptr) {
      const auto* address = reinterpret_cast<const sockaddr_in6*>(at->ifa_addr);
      const auto* mask = reinterpret_cast<const sockaddr_in6*>(at->ifa_netmask);
      NetDevice::Address one;
      std::memcpy(one.bytes.data(), &address->sin6_addr, 16);
      one.prefix = bits_of(mask->sin6_addr.s6_addr, 16);
      here.addresses.push_back(one);
    }
  }
  freeifaddrs(all);
  out.routes = FLUYT_TRY(main_routes());
  return out;
}

}  // namespace fluyt::guest::host
