#include "guest/net/ping.h"

#include <netinet/icmp6.h>
#include <netinet/in.h>
#include <netinet/ip_icmp.h>
#include <poll.h>
#include <sys/socket.h>

#include <algorithm>
#include <cstring>
#include <iterator>
#include <utility>

#include "guest/net/inet_datagram.h"

namespace fluyt::guest {
namespace {

/// The header that echo requests and replies of both families begin with.
struct EchoHeader {
  uint8_t type = 0;
  uint8_t code = 0;
  uint16_t checksum = 0;
  uint16_t identifier = 0;  // network order
  uint16_t sequence = 0;
};
static_assert(sizeof(EchoHeader) == 8);

uint32_t sum_of(std::span<const std::byte> bytes) {
  uint32_t sum = 0;
  for (size_t i = 0; i < bytes.size(); i += 2) {
    sum += static_cast<uint32_t>(bytes[i]);
    if (i + 1 < bytes.size()) sum += static_cast<uint32_t>(bytes[i + 1]) << 8;
  }
  return sum;
}
uint16_t folded(uint32_t sum) {
  while ((sum >> 16) != 0) sum = (sum & 0xffff) + (sum >> 16);
  return static_cast<uint16_t>(~sum);
}

EchoHeader header_of(std::span<const std::byte> message) {
  EchoHeader out;
  std::memcpy(&out, message.data(), sizeof out);
  return out;
}
void put_header(std::span<std::byte> message, const EchoHeader& header) {
  std::memcpy(message.data(), &header, sizeof header);
}

/// An echo socket: what is sent are requests, with an identifier of the socket's; what is received
/// are the replies to them.
class PingSocket final : public InetDatagramSocket {
 public:
  PingSocket(const std::shared_ptr<Network>& network, int family, int flags)
      : InetDatagramSocket(
            network, family, family == AF_INET ? int{IPPROTO_ICMP} : int{IPPROTO_ICMPV6}, flags,
            family == AF_INET ? network->echo : network->echo6, Binder::Protocol::kEcho) {}

  Errno bind(Caller& caller, const Places&, const SocketAddress& address) override {
    const Endpoint wanted = GUEST_TRY(parse_endpoint(address, family()));
    if (!is_ours(wanted) && !network_->has_address(wanted)) return Errno(EADDRNOTAVAIL);
    // Identifiers are shared by all who ask for the same.
    std::lock_guard lock(binding_);
    return binder_.bind(shared_from_this(), caller, wanted, true, true);
  }

  Errno connect(Caller& caller, const Places&, const SocketAddress& address) override {
    if (address.length < sizeof(uint16_t)) return Errno(EINVAL);
    if (address.family() == AF_UNSPEC) {
      std::lock_guard lock(mutex_);
      peer_.reset();
      return kOk;
    }
    const Endpoint to = destination(GUEST_TRY(parse_endpoint(address, family())));
    GUEST_TRY(may_reach(to));
    std::lock_guard lock(binding_);
    GUEST_TRY(choose(caller));
    if (binder_.local().is_any() && is_ours(to)) binder_.set_local(*this, source_for(to, 0));
    std::lock_guard guard(mutex_);
    peer_ = to;
    return kOk;
  }

  ErrnoOr<size_t> send(Caller& caller, const Places*, const Outgoing& out) override {
    if (out.data.size() > longest()) return Errno(EMSGSIZE);
    if ((out.flags & MSG_OOB) != 0) return Errno(EOPNOTSUPP);
    if (out.data.size() < sizeof(EchoHeader)) return Errno(EINVAL);
    EchoHeader header = header_of(out.data);
    if (header.type != request() || header.code != 0) return Errno(EINVAL);
    Endpoint to;
    if (out.to != nullptr && out.to->length != 0) {
      to = destination(GUEST_TRY(parse_endpoint(*out.to, family())));
    } else {
      std::lock_guard lock(mutex_);
      if (!peer_) return Errno(EDESTADDRREQ);
      to = *peer_;
    }
    {
      std::lock_guard lock(mutex_);
      if (error_ != 0) return Errno(std::exchange(error_, 0));
    }
    GUEST_TRY(may_reach(to));
    const PacketOptions::Asked asked = GUEST_TRY(options_.ask(to, out.control));
    {
      std::lock_guard lock(binding_);
      GUEST_TRY(choose(caller));
      header.identifier = htons(binder_.local().port);
    }
    header.checksum = 0;
    std::vector<std::byte> message(out.data.begin(), out.data.end());
    if (!is_ours(to)) {
      if (asked.source && asked.source->is_loopback()) return Errno(EINVAL);
      put_header(message, header);
      return send_outside(caller, to, message, out);
    }
    // The machine itself answers.
    header.type = reply();
    put_header(message, header);
    uint32_t sum = sum_of(message);
    if (family() == AF_INET6) {
      // RFC 8200, 8.1: the addresses, the length and the protocol are part of it.
      sum += 2 * sum_of(std::as_bytes(std::span(to.address)));
      sum += htons(static_cast<uint16_t>(message.size())) + htons(IPPROTO_ICMPV6);
    }
    header.checksum = folded(sum);
    put_header(message, header);
    Segment segment;
    segment.data = std::move(message);
    segment.from = shown(at_no_port(to), family());
    segment.packet =
        Packet{asked.source.value_or(to), 1, 64, static_cast<uint8_t>(asked.traffic_class)};
    GUEST_TRY(deliver(std::move(segment), Full::kDrop));
    return out.data.size();
  }

  size_t longest() const override { return 0xffff; }

  Errno set_option(Caller& caller, int level, int option,
                   std::span<const std::byte> value) override {
    if (level == SOL_SOCKET) return Socket::set_option(caller, level, option, value);
    if (level != IPPROTO_IP && level != IPPROTO_IPV6) return Errno(ENOPROTOOPT);
    GUEST_TRY(options_.set(caller, level, option, value));
    if (const HostEndPtr end = outside()) pass_options(*end);
    return kOk;
  }
  ErrnoOr<std::vector<std::byte>> get_option(Caller& caller, int level, int option) override {
    if (level == SOL_SOCKET) return Socket::get_option(caller, level, option);
    if (level != IPPROTO_IP && level != IPPROTO_IPV6) return Errno(EOPNOTSUPP);
    return options_.get(level, option);
  }

 protected:
  bool hears(const Endpoint& from) override {
    std::lock_guard lock(mutex_);
    return !peer_ || peer_->address == from.address;
  }
  /// The host's socket has an identifier of its own.
  void from_host(std::span<std::byte> message, Endpoint& from) override {
    from.port = 0;
    if (message.size() < sizeof(EchoHeader)) return;
    EchoHeader header = header_of(message);
    const uint16_t theirs = header.identifier;
    {
      std::lock_guard lock(binding_);
      header.identifier = htons(binder_.local().port);
    }
    // RFC 1624, equation 3.
    header.checksum =
        folded(static_cast<uint16_t>(~header.checksum) +
               static_cast<uint32_t>(static_cast<uint16_t>(~theirs)) + header.identifier);
    put_header(message, header);
  }

 private:
  uint8_t request() const { return family() == AF_INET ? ICMP_ECHO : ICMP6_ECHO_REQUEST; }
  uint8_t reply() const { return family() == AF_INET ? ICMP_ECHOREPLY : ICMP6_ECHO_REPLY; }
  static Endpoint at_no_port(Endpoint at) {
    at.port = 0;
    return at;
  }
  Errno may_reach(const Endpoint& to) const {
    if (family() == AF_INET6 && to.is_v4()) return Errno(EINVAL);
    if (is_ours(to)) return kOk;
    if (to.address == Endpoint::v4(INADDR_BROADCAST, 0).address && !broadcast_)
      return Errno(EACCES);
    return network_->outside != nullptr ? kOk : Errno(ENETUNREACH);
  }
  Errno choose(Caller& caller) {
    if (binder_.bound()) return kOk;
    return binder_.bind(shared_from_this(), caller, binder_.any(), false, false);
  }
  ErrnoOr<size_t> send_outside(Caller& caller, const Endpoint& to,
                               std::span<const std::byte> message, const Outgoing& out) {
    HostEndPtr end = outside();
    if (!end) {
      std::lock_guard lock(binding_);
      host::NetRequest asked;
      asked.op = host::NetRequest::kBind;
      asked.type = SOCK_DGRAM;
      asked.protocol = static_cast<uint32_t>(protocol());
      const Endpoint any = at_no_port(binder_.any());
      end = GUEST_TRY(network_->outside->make(asked, &any, nullptr, queue_));
      pass_options(*end);
      std::lock_guard guard(mutex_);
      outside_ = end;
    }
    const host::NetAddress address = net_address(at_no_port(to), family());
    return send_by(*end, caller, message, &address, out);
  }
};

}  // namespace

SocketPtr make_ping_socket(const std::shared_ptr<Network>& network, int family, int flags) {
  return std::make_shared<PingSocket>(network, family, flags);
}

}  // namespace fluyt::guest
