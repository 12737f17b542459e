#include "guest/net/packet.h"

#include <netinet/in.h>
#include <sys/socket.h>

#include <algorithm>
#include <cstring>
#include <type_traits>
#include <utility>

#include "guest/net/interfaces.h"
#include "guest/vfs/file.h"

namespace fluyt::guest {
namespace {

using Rule = OptionRule;
constexpr int k4 = IPPROTO_IP;
constexpr int k6 = IPPROTO_IPV6;

// What the C library's header does not name.
constexpr int kIpRecvFragmentSize = 25;
constexpr int kIpRecvErrorRfc4884 = 26;
constexpr int kIpv6MulticastAll = 29;
constexpr int kIpv6RouterAlertIsolate = 30;
constexpr int kIpv6RecvErrorRfc4884 = 31;
constexpr int kIpv6FlowInfo = 11;
constexpr int kIpv6FlowInfoSend = 33;
constexpr int kIpv6Old[] = {2, 3, 4, 5, 8};  // IPV6_2292PKTINFO and those after it
constexpr int kIpv6OldPacketInfo = 2;
constexpr int kIpv6OldHopLimit = 8;

constexpr Rule kOptions[] = {
    {k4, IP_TOS, Rule::kByte, 0, 255, 0},
    {k4, IP_TTL, Rule::kNotZero, -1, 255, 64},
    {k4, IP_HDRINCL, Rule::kReadOnly, 0, 0, 0},
    {k4, IP_ROUTER_ALERT, Rule::kFixed, 0, 0, 0},
    {k4, IP_RECVOPTS, Rule::kBool, 0, 1, 0},
    {k4, IP_RETOPTS, Rule::kBool, 0, 1, 0},
    {k4, IP_PKTINFO, Rule::kBool, 0, 1, 0},
    {k4, IP_MTU_DISCOVER, Rule::kRange, 0, 5, 1},
    {k4, IP_RECVERR, Rule::kBool, 0, 1, 0},
    {k4, IP_RECVTTL, Rule::kBool, 0, 1, 0},
    {k4, IP_RECVTOS, Rule::kBool, 0, 1, 0},
    {k4, IP_FREEBIND, Rule::kBool, 0, 1, 0},
    {k4, IP_PASSSEC, Rule::kBool, 0, 1, 0},
    {k4, IP_RECVORIGDSTADDR, Rule::kBool, 0, 1, 0},
    {k4, IP_MINTTL, Rule::kRange, 0, 255, 0},
    {k4, IP_CHECKSUM, Rule::kBool, 0, 1, 0},
    {k4, IP_BIND_ADDRESS_NO_PORT, Rule::kBool, 0, 1, 0},
    {k4, kIpRecvErrorRfc4884, Rule::kRange, 0, 1, 0},
    {k4, IP_MULTICAST_LOOP, Rule::kBool, 0, 1, 1},
};
constexpr Rule kV4Options[] = {{k4, IP_MULTICAST_ALL, Rule::kRange, 0, 1, 1}};
constexpr Rule kDatagramOptions[] = {
    {k4, kIpRecvFragmentSize, Rule::kBool, 0, 1, 0},
    {k4, IP_MULTICAST_TTL, Rule::kRange, -1, 255, 1},
    {k6, IPV6_MULTICAST_HOPS, Rule::kRange, -1, 255, 1},
};
constexpr Rule kStreamOptions[] = {
    {k4, kIpRecvFragmentSize, Rule::kFixed, 0, 0, 0},
    {k4, IP_MULTICAST_TTL, Rule::kFixed, 0, 0, 1},
    {k6, IPV6_MULTICAST_HOPS, Rule::kReadOnly, 0, 0, 1},
};
constexpr Rule kV6Options[] = {
    {k4, IP_MULTICAST_ALL, Rule::kRange, 0, 1, 0},  // Linux leaves it out when it makes the socket
    {k6, kIpv6FlowInfo, Rule::kBool, 0, 1, 0},
    {k6, IPV6_UNICAST_HOPS, Rule::kRange, -1, 255, 64},
    {k6, IPV6_MULTICAST_LOOP, Rule::kRange, 0, 1, 1},
    {k6, IPV6_ROUTER_ALERT, Rule::kReadOnly, 0, 0, 0},
    {k6, IPV6_MTU_DISCOVER, Rule::kRange, 0, 5, 1},
    {k6, IPV6_RECVERR, Rule::kBool, 0, 1, 0},
    {k6, kIpv6MulticastAll, Rule::kBool, 0, 1, 1},
    {k6, kIpv6RouterAlertIsolate, Rule::kBool, 0, 1, 0},
    {k6, kIpv6RecvErrorRfc4884, Rule::kRange, 0, 1, 0},
    {k6, kIpv6FlowInfoSend, Rule::kBool, 0, 1, 0},
    {k6, IPV6_RECVPKTINFO, Rule::kBool, 0, 1, 0},
    {k6, IPV6_RECVHOPLIMIT, Rule::kBool, 0, 1, 0},
    {k6, IPV6_RECVHOPOPTS, Rule::kBool, 0, 1, 0},
    {k6, IPV6_RECVRTHDR, Rule::kBool, 0, 1, 0},
    {k6, IPV6_RECVDSTOPTS, Rule::kBool, 0, 1, 0},
    {k6, IPV6_RECVPATHMTU, Rule::kBool, 0, 1, 0},
    {k6, IPV6_DONTFRAG, Rule::kBool, 0, 1, 0},
    {k6, IPV6_RECVTCLASS, Rule::kBool, 0, 1, 0},
    {k6, IPV6_TCLASS, Rule::kRange, -1, 255, 0},
    {k6, IPV6_AUTOFLOWLABEL, Rule::kBool, 0, 1, 1},
    {k6, IPV6_MINHOPCOUNT, Rule::kRange, 0, 255, 0},
    {k6, IPV6_ORIGDSTADDR, Rule::kBool, 0, 1, 0},
    {k6, IPV6_RECVFRAGSIZE, Rule::kBool, 0, 1, 0},
    {k6, IPV6_FREEBIND, Rule::kBool, 0, 1, 0},
    {k6, kIpv6Old[0], Rule::kBool, 0, 1, 0},
    {k6, kIpv6Old[1], Rule::kBool, 0, 1, 0},
    {k6, kIpv6Old[2], Rule::kBool, 0, 1, 0},
    {k6, kIpv6Old[3], Rule::kBool, 0, 1, 0},
    {k6, kIpv6Old[4], Rule::kBool, 0, 1, 0},
};

const Rule* find_rule(int family, bool stream, int level, int option) {
  const auto in = [&](std::span<const Rule> table) -> const Rule* {
    const auto found = std::ranges::find_if(
        table, [&](const Rule& rule) { return rule.level == level && rule.option == option; });
    return found == table.end() ? nullptr : &*found;
  };
  if (level == k6 && family != AF_INET6) return nullptr;
  if (const Rule* rule = in(kOptions)) return rule;
  if (const Rule* rule = in(stream ? std::span<const Rule>(kStreamOptions)
                                   : std::span<const Rule>(kDatagramOptions)))
    return rule;
  return in(family == AF_INET6 ? std::span<const Rule>(kV6Options) : kV4Options);
}

/// The options that add a control message to what is received, a bit each.
struct Want {
  uint32_t bit;
  int level, option;
};
enum WantBit : uint32_t {
  kPacketInfo4 = 1,
  kTtl = 2,
  kTos = 4,
  kOriginal4 = 8,
  kPacketInfo6 = 16,
  kHopLimit = 32,
  kTrafficClass = 64,
  kOldPacketInfo6 = 128,
  kOldHopLimit = 256,
  kOriginal6 = 512,
};
constexpr Want kWants[] = {
    {kPacketInfo4, k4, IP_PKTINFO},
    {kTtl, k4, IP_RECVTTL},
    {kTos, k4, IP_RECVTOS},
    {kOriginal4, k4, IP_RECVORIGDSTADDR},
    {kPacketInfo6, k6, IPV6_RECVPKTINFO},
    {kHopLimit, k6, IPV6_RECVHOPLIMIT},
    {kTrafficClass, k6, IPV6_RECVTCLASS},
    {kOldPacketInfo6, k6, kIpv6OldPacketInfo},
    {kOldHopLimit, k6, kIpv6OldHopLimit},
    {kOriginal6, k6, IPV6_ORIGDSTADDR},
};

/// What a socket of the host's can be told as it is.
constexpr std::pair<int, int> kPassed[] = {
    {k4, IP_TOS},
    {k4, IP_TTL},
    {k4, IP_MTU_DISCOVER},
    {k4, IP_MULTICAST_TTL},
    {k4, IP_MULTICAST_LOOP},
    {k4, IP_MULTICAST_ALL},
    {k6, IPV6_UNICAST_HOPS},
    {k6, IPV6_TCLASS},
    {k6, IPV6_MTU_DISCOVER},
    {k6, IPV6_MULTICAST_HOPS},
    {k6, IPV6_MULTICAST_LOOP},
    {k6, kIpv6MulticastAll},
    {k6, IPV6_DONTFRAG},
};

template <class T>
bool read_as(std::span<const std::byte> value, T& out) {
  static_assert(std::is_trivially_copyable_v<T>);
  if (value.size() < sizeof out) return false;
  std::memcpy(&out, value.data(), sizeof out);
  return true;
}
template <class T>
std::vector<std::byte> bytes_of(const T& value) {
  const auto bytes = std::as_bytes(std::span(&value, 1));
  return {bytes.begin(), bytes.end()};
}

Endpoint v4_of(const in_addr& address) { return Endpoint::v4(ntohl(address.s_addr), 0); }
Endpoint v6_of(const in6_addr& address) {
  Endpoint out;
  std::memcpy(out.address.data(), &address, sizeof address);
  return out;
}
in_addr raw_v4(const Endpoint& at) {
  in_addr out{};
  std::memcpy(&out, &at.address[12], sizeof out);
  return out;
}
in6_addr raw_v6(const Endpoint& at) {
  in6_addr out{};
  std::memcpy(&out, at.address.data(), sizeof out);
  return out;
}

constexpr size_t kMostMemberships = 20;  // net.ipv4.igmp_max_memberships
constexpr size_t kMembershipCost = 256;  // of what may wait in the sandbox's sockets

}  // namespace

ErrnoOr<int> checked(const OptionRule& rule, std::span<const std::byte> value) {
  int number = 0;
  if (rule.how == Rule::kReadOnly) return Errno(ENOPROTOOPT);
  if (value.size() == 1 && rule.level == k4)
    number = static_cast<int>(value[0]);
  else if (!read_as(value, number))
    return Errno(EINVAL);
  switch (rule.how) {
    case Rule::kBool:
      return number != 0 ? 1 : 0;
    case Rule::kByte:
      return number & 0xff;
    case Rule::kFixed:
      return Errno(EINVAL);
    default:
      break;
  }
  if (number < rule.lowest || number > rule.highest) return Errno(EINVAL);
  if (number == 0 && rule.how == Rule::kNotZero) return Errno(EINVAL);
  return number == -1 && rule.lowest == -1 ? rule.initial : number;
}

PacketOptions::~PacketOptions() {
  for (const Membership& one : memberships_) network_->groups.leave(one.group, one.device);
  network_->budget.give_back(memberships_.size() * kMembershipCost);
}

bool PacketOptions::is_stream() const { return type_ == SOCK_STREAM; }

PacketOptions::Number* PacketOptions::find_number(int level, int option) {
  const auto found = std::ranges::find_if(
      numbers_, [&](const Number& one) { return one.level == level && one.option == option; });
  return found == numbers_.end() ? nullptr : &*found;
}

int PacketOptions::number(int level, int option) {
  std::lock_guard lock(mutex_);
  if (const Number* found = find_number(level, option)) return found->value;
  const Rule* rule = find_rule(family_, is_stream(), level, option);
  return rule == nullptr ? 0 : rule->initial;
}

void PacketOptions::renew_wants() {
  uint32_t wants = 0;
  for (const Want& want : kWants)
    if (number(want.level, want.option) != 0) wants |= want.bit;
  wants_ = wants;
}

void PacketOptions::copy_from(PacketOptions& other) {
  {
    std::scoped_lock lock(mutex_, other.mutex_);
    numbers_ = other.numbers_;
  }
  renew_wants();
}

Errno PacketOptions::set(const Caller& caller, int level, int option,
                         std::span<const std::byte> value) {
  if (level == k6 && family_ != AF_INET6) return Errno(ENOPROTOOPT);
  if (level == k4) {
    switch (option) {
      case IP_OPTIONS:
        return value.empty() ? kOk : Errno(EINVAL);
      case IP_TRANSPARENT: {
        int on = 0;
        if (!read_as(value, on)) return Errno(EINVAL);
        if (on == 0) return kOk;
        return Errno(caller.credentials.can(kCapNetAdmin) ? ENOPROTOOPT : EPERM);
      }
      case IP_MULTICAST_IF:
      case IP_UNICAST_IF:
        return set_device(level, option, value);
      case IP_ADD_MEMBERSHIP:
      case IP_DROP_MEMBERSHIP:
      case MCAST_JOIN_GROUP:
      case MCAST_LEAVE_GROUP:
        return change_group(level, option, value);
      default:
        break;
    }
  } else if (level == k6) {
    switch (option) {
      case IPV6_MULTICAST_IF:
      case IPV6_UNICAST_IF:
        return set_device(level, option, value);
      case IPV6_JOIN_GROUP:
      case IPV6_LEAVE_GROUP:
      case MCAST_JOIN_GROUP:
      case MCAST_LEAVE_GROUP:
        return change_group(level, option, value);
      case IPV6_HOPOPTS:
      case IPV6_RTHDR:
      case IPV6_RTHDRDSTOPTS:
      case IPV6_DSTOPTS:
        // Extension headers, of which loopback would keep none.
        return value.empty() ? kOk : Errno(EINVAL);
      case IPV6_MTU: {
        constexpr int kLeast = 1280;
        int mtu = 0;
        if (!read_as(value, mtu)) return Errno(EINVAL);
        return mtu != 0 && mtu < kLeast ? Errno(EINVAL) : kOk;
      }
      default:
        break;
    }
  }
  const Rule* rule = find_rule(family_, is_stream(), level, option);
  if (rule == nullptr) return Errno(ENOPROTOOPT);
  int number = GUEST_TRY(checked(*rule, value));
  // TCP's own business are the two bits of congestion.
  if (is_stream() && ((level == k4 && option == IP_TOS) || (level == k6 && option == IPV6_TCLASS)))
    number &= 0xfc;
  {
    std::lock_guard lock(mutex_);
    if (Number* found = find_number(level, option))
      found->value = number;
    else
      numbers_.push_back({level, option, number});
  }
  renew_wants();
  return kOk;
}

ErrnoOr<std::vector<std::byte>> PacketOptions::get(int level, int option) {
  if (level == k4) {
    std::lock_guard lock(mutex_);
    if (option == IP_OPTIONS) return std::vector<std::byte>();
    if (option == IP_MULTICAST_IF) return bytes_of(group_source_);
    if (option == IP_UNICAST_IF) return bytes_of(htonl(static_cast<uint32_t>(device_[0])));
    if (option == IP_TRANSPARENT) return bytes_of(0);
  }
  if (level == k6 && family_ == AF_INET6) {
    std::lock_guard lock(mutex_);
    if (option == IPV6_HOPOPTS || option == IPV6_RTHDR || option == IPV6_RTHDRDSTOPTS ||
        option == IPV6_DSTOPTS)
      return std::vector<std::byte>();
    if (option == IPV6_MULTICAST_IF) return bytes_of(group_device_[1]);
    if (option == IPV6_UNICAST_IF) return bytes_of(htonl(static_cast<uint32_t>(device_[1])));
  }
  const Rule* rule = find_rule(family_, is_stream(), level, option);
  if (rule == nullptr) return Errno(ENOPROTOOPT);
  return bytes_of(number(level, option));
}

Errno PacketOptions::set_device(int level, int option, std::span<const std::byte> value) {
  const bool unicast = option == (level == k4 ? IP_UNICAST_IF : IPV6_UNICAST_IF);
  int index = 0;
  if (unicast) {
    uint32_t raw = 0;
    if (!read_as(value, raw)) return Errno(EINVAL);
    index = static_cast<int>(ntohl(raw));
    if (index != 0 && network_->device(index) == nullptr) return Errno(EADDRNOTAVAIL);
    std::lock_guard lock(mutex_);
    device_[level == k6 ? 1 : 0] = index;
    return kOk;
  }
  if (is_stream()) return Errno(level == k4 ? EINVAL : ENOPROTOOPT);
  if (level == k6) {
    if (!read_as(value, index)) return Errno(EINVAL);
    if (index != 0 && network_->device(index) == nullptr) return Errno(ENODEV);
    std::lock_guard lock(mutex_);
    group_device_[1] = index;
    return kOk;
  }
  // An address, or one behind a group (ip_mreq), or that with an index (ip_mreqn).
  ip_mreqn asked{};
  ip_mreq older{};
  if (!read_as(value, asked)) {
    asked = {};
    if (read_as(value, older))
      asked.imr_address = older.imr_interface;
    else if (!read_as(value, asked.imr_address))
      return Errno(EINVAL);
  }
  if (asked.imr_ifindex != 0) {
    if (network_->device(asked.imr_ifindex) == nullptr) return Errno(EADDRNOTAVAIL);
    index = asked.imr_ifindex;
  } else if (asked.imr_address.s_addr != 0) {
    const Interface* device = network_->device_of(v4_of(asked.imr_address));
    if (device == nullptr) return Errno(EADDRNOTAVAIL);
    index = device->index;
  }
  std::lock_guard lock(mutex_);
  group_device_[0] = index;
  group_source_ = asked.imr_address.s_addr;
  return kOk;
}

Errno PacketOptions::change_group(int level, int option, std::span<const std::byte> value) {
  if (is_stream())
    return Errno(option == MCAST_JOIN_GROUP || option == MCAST_LEAVE_GROUP ? EINVAL : EPROTO);
  const bool joins =
      option == (level == k4 ? IP_ADD_MEMBERSHIP : IPV6_JOIN_GROUP) || option == MCAST_JOIN_GROUP;
  Endpoint group;
  const Interface* device = nullptr;
  bool any_device = false;
  if (option == MCAST_JOIN_GROUP || option == MCAST_LEAVE_GROUP) {
    group_req asked{};
    if (!read_as(value, asked)) return Errno(EINVAL);
    SocketAddress address;
    address.length = sizeof asked.gr_group;
    std::memcpy(address.bytes.data(), &asked.gr_group, sizeof asked.gr_group);
    const int family = level == k4 ? AF_INET : AF_INET6;
    if (address.family() != family) return Errno(level == k4 ? EINVAL : EADDRNOTAVAIL);
    group = GUEST_TRY(parse_endpoint(address, family));
    any_device = asked.gr_interface == 0;
    device = any_device ? network_->route_to(group)
                        : network_->device(static_cast<int>(asked.gr_interface));
  } else if (level == k4) {
    ip_mreqn asked{};
    ip_mreq older{};
    if (!read_as(value, older)) return Errno(EINVAL);
    if (!read_as(value, asked)) asked = {older.imr_multiaddr, older.imr_interface, 0};
    group = v4_of(asked.imr_multiaddr);
    if (asked.imr_ifindex != 0) {
      device = network_->device(asked.imr_ifindex);
    } else if (asked.imr_address.s_addr != 0) {
      device = network_->device_of(v4_of(asked.imr_address));
    } else {
      any_device = true;
      device = network_->route_to(group);
    }
  } else {
    ipv6_mreq asked{};
    if (!read_as(value, asked)) return Errno(EINVAL);
    group = v6_of(asked.ipv6mr_multiaddr);
    any_device = asked.ipv6mr_interface == 0;
    device = any_device ? network_->route_to(group)
                        : network_->device(static_cast<int>(asked.ipv6mr_interface));
  }
  group.port = 0;
  group.scope = 0;
  if (!group.is_multicast() || group.is_v4() != (level == k4)) return Errno(EINVAL);
  if (joins) return device == nullptr ? Errno(ENODEV) : join(group, device->index);
  if (device == nullptr && !(any_device && level == k6)) return Errno(ENODEV);
  return leave(group, any_device && level == k6 ? 0 : device->index);
}

Errno PacketOptions::join(const Endpoint& group, int device) {
  std::lock_guard lock(mutex_);
  for (const Membership& one : memberships_)
    if (one.group == group && one.device == device) return Errno(EADDRINUSE);
  if (memberships_.size() >= kMostMemberships) return Errno(ENOBUFS);
  GUEST_TRY(network_->budget.charge(kMembershipCost));
  memberships_.push_back({group, device});
  network_->groups.join(group, device);
  return kOk;
}

Errno PacketOptions::leave(const Endpoint& group, int device) {
  std::lock_guard lock(mutex_);
  const auto found = std::ranges::find_if(memberships_, [&](const Membership& one) {
    return one.group == group && (device == 0 || one.device == device);
  });
  if (found == memberships_.end()) return Errno(EADDRNOTAVAIL);
  network_->groups.leave(found->group, found->device);
  network_->budget.give_back(kMembershipCost);
  if (left_.size() < kMostMemberships) left_.push_back(*found);
  memberships_.erase(found);
  return kOk;
}

ErrnoOr<PacketOptions::Asked> PacketOptions::ask(const Endpoint& to,
                                                 std::span<const ControlMessage> control) {
  const bool four = to.is_v4();
  Asked out;
  if (to.is_multicast())
    out.hops = number(four ? k4 : k6, four ? IP_MULTICAST_TTL : IPV6_MULTICAST_HOPS);
  else
    out.hops = number(four ? k4 : k6, four ? IP_TTL : IPV6_UNICAST_HOPS);
  out.traffic_class = number(four ? k4 : k6, four ? IP_TOS : IPV6_TCLASS);
  {
    std::lock_guard lock(mutex_);
    out.device = device_[four ? 0 : 1];
  }
  const auto whole = [](const ControlMessage& one, int lowest, int highest) -> ErrnoOr<int> {
    int value = 0;
    if (one.data.size() != sizeof value || !read_as(one.data, value)) return Errno(EINVAL);
    if (value < lowest || value > highest) return Errno(EINVAL);
    return value;
  };
  const auto from = [&](const Endpoint& source, int device) -> Errno {
    if (device != 0) {
      if (network_->device(device) == nullptr) return Errno(ENODEV);
      out.device = device;
    }
    if (source.is_any()) return kOk;
    if (network_->device_of(source) == nullptr) return Errno(four ? ENETUNREACH : EINVAL);
    out.source = source;
    return kOk;
  };
  for (const ControlMessage& one : control) {
    if (one.level == k6 && family_ == AF_INET6 &&
        (one.type == IPV6_PKTINFO || (!four && one.type == kIpv6OldPacketInfo))) {
      in6_pktinfo asked{};
      if (!read_as(one.data, asked)) return Errno(EINVAL);
      const Endpoint source = v6_of(asked.ipi6_addr);
      if (four && !source.is_v4()) {
        if (one.data.size() != sizeof asked) return Errno(EINVAL);
        if (!source.is_any()) return Errno(EINVAL);
      }
      GUEST_TRY(from(source, static_cast<int>(asked.ipi6_ifindex)));
      continue;
    }
    if (four) {
      if (one.level != k4) continue;
      switch (one.type) {
        case IP_RETOPTS:
          if (!one.data.empty()) return Errno(EINVAL);
          break;
        case IP_PKTINFO: {
          in_pktinfo asked{};
          if (one.data.size() != sizeof asked || !read_as(one.data, asked)) return Errno(EINVAL);
          GUEST_TRY(from(v4_of(asked.ipi_spec_dst), asked.ipi_ifindex));
          break;
        }
        case IP_TTL:
          out.hops = GUEST_TRY(whole(one, 1, 255));
          break;
        case IP_TOS:
          if (one.data.size() == 1)
            out.traffic_class = static_cast<int>(one.data[0]);
          else
            out.traffic_class = GUEST_TRY(whole(one, 0, 255));
          break;
        default:
          return Errno(EINVAL);
      }
      continue;
    }
    if (one.level != k6) continue;
    switch (one.type) {
      case IPV6_HOPLIMIT:
      case kIpv6OldHopLimit: {
        const int hops = GUEST_TRY(whole(one, -1, 255));
        if (hops != -1) out.hops = hops;
        break;
      }
      case IPV6_TCLASS: {
        out.traffic_class = GUEST_TRY(whole(one, -1, 255)) & 0xff;
        break;
      }
      case IPV6_DONTFRAG:
        (void)GUEST_TRY(whole(one, 0, 1));
        break;
      case kIpv6FlowInfo:
        if (one.data.size() < sizeof(uint32_t)) return Errno(EINVAL);
        break;
      default:
        return Errno(EINVAL);
    }
  }
  return out;
}

const Interface* PacketOptions::device_for_group(const Endpoint& group, const Asked& asked,
                                                 const Endpoint& local) {
  int index = asked.device;
  if (index == 0 && !group.is_v4()) index = static_cast<int>(group.scope);
  if (index == 0) {
    std::lock_guard lock(mutex_);
    index = group_device_[group.is_v4() ? 0 : 1];
  }
  if (index != 0) return network_->device(index);
  if (!local.is_any() && !local.is_multicast())
    if (const Interface* device = network_->device_of(local)) return device;
  return network_->route_to(group);
}

bool PacketOptions::hears_group(const Endpoint& group, int device) {
  {
    std::lock_guard lock(mutex_);
    for (const Membership& one : memberships_)
      if (one.group.address == group.address && one.device == device) return true;
  }
  return number(group.is_v4() ? k4 : k6, group.is_v4() ? IP_MULTICAST_ALL : kIpv6MulticastAll) != 0;
}

void PacketOptions::describe(const Packet& packet, std::vector<ControlMessage>& out) const {
  const uint32_t wants = wants_.load();
  if (wants == 0) return;
  const bool four = packet.to.is_v4();
  const auto info6 = [&](int type) {
    in6_pktinfo info{};
    info.ipi6_addr = raw_v6(packet.to);
    info.ipi6_ifindex = static_cast<unsigned>(packet.device);
    out.push_back(ControlMessage::of(k6, type, info));
  };
  const int hops = packet.hops;
  const int traffic_class = packet.traffic_class;
  if ((wants & kPacketInfo6) != 0) info6(IPV6_PKTINFO);
  if (four) {
    if ((wants & kPacketInfo4) != 0) {
      in_pktinfo info{};
      info.ipi_ifindex = packet.device;
      info.ipi_addr = raw_v4(packet.to);
      info.ipi_spec_dst = info.ipi_addr;
      if (packet.to.is_multicast()) info.ipi_spec_dst = raw_v4(Endpoint::v4(INADDR_LOOPBACK, 0));
      out.push_back(ControlMessage::of(k4, IP_PKTINFO, info));
    }
    if ((wants & kTtl) != 0) out.push_back(ControlMessage::of(k4, IP_TTL, hops));
    if ((wants & kTos) != 0) out.push_back(ControlMessage::of(k4, IP_TOS, packet.traffic_class));
    if ((wants & kOriginal4) != 0) {
      sockaddr_in at{};
      std::memcpy(&at, shown(packet.to, AF_INET).bytes.data(), sizeof at);
      out.push_back(ControlMessage::of(k4, IP_ORIGDSTADDR, at));
    }
    return;
  }
  if ((wants & kHopLimit) != 0) out.push_back(ControlMessage::of(k6, IPV6_HOPLIMIT, hops));
  if ((wants & kTrafficClass) != 0)
    out.push_back(ControlMessage::of(k6, IPV6_TCLASS, traffic_class));
  if ((wants & kOldPacketInfo6) != 0) info6(kIpv6OldPacketInfo);
  if ((wants & kOldHopLimit) != 0) out.push_back(ControlMessage::of(k6, kIpv6OldHopLimit, hops));
  if ((wants & kOriginal6) != 0) {
    sockaddr_in6 at{};
    std::memcpy(&at, shown(packet.to, AF_INET6).bytes.data(), sizeof at);
    out.push_back(ControlMessage::of(k6, IPV6_ORIGDSTADDR, at));
  }
}

std::vector<PacketOptions::Setting> PacketOptions::for_host() {
  std::vector<Setting> out;
  const auto passes = [](const Number& one) {
    return std::ranges::find(kPassed, std::pair(one.level, one.option)) != std::end(kPassed) ||
           std::ranges::any_of(kWants, [&](const Want& want) {
             return want.level == one.level && want.option == one.option;
           });
  };
  std::lock_guard lock(mutex_);
  for (const Number& one : numbers_)
    if (passes(one)) out.push_back({one.level, one.option, bytes_of(one.value)});
  constexpr int kLoopback = 1;
  if (group_device_[0] > kLoopback) {
    ip_mreqn asked{};
    asked.imr_ifindex = group_device_[0];
    out.push_back({k4, IP_MULTICAST_IF, bytes_of(asked)});
  }
  if (group_device_[1] > kLoopback)
    out.push_back({k6, IPV6_MULTICAST_IF, bytes_of(group_device_[1])});
  const auto change = [&](const Membership& one, int option) {
    if (one.device <= kLoopback) return;
    const bool four = one.group.is_v4();
    group_req asked{};
    asked.gr_interface = static_cast<uint32_t>(one.device);
    const SocketAddress group = shown(one.group, four ? AF_INET : AF_INET6);
    std::memcpy(&asked.gr_group, group.bytes.data(), group.length);
    out.push_back({four ? k4 : k6, option, bytes_of(asked)});
  };
  for (const Membership& one : left_) change(one, MCAST_LEAVE_GROUP);
  left_.clear();
  for (const Membership& one : memberships_) change(one, MCAST_JOIN_GROUP);
  return out;
}

}  // namespace fluyt::guest
