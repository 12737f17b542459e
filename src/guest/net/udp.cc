#include "guest/net/udp.h"

#include <netinet/in.h>
#include <poll.h>
#include <sys/socket.h>

#include <algorithm>
#include <iterator>
#include <utility>

#include "guest/net/inet_datagram.h"

namespace fluyt::guest {
namespace {

// UDPLITE_SEND_CSCOV and UDPLITE_RECV_CSCOV: how much of a datagram its checksum is about.
constexpr OptionRule kUdpLiteOptions[] = {{IPPROTO_UDPLITE, 10, OptionRule::kRange, 0, 65535, 0},
                                          {IPPROTO_UDPLITE, 11, OptionRule::kRange, 0, 65535, 0}};

class UdpSocket final : public InetDatagramSocket {
 public:
  UdpSocket(const std::shared_ptr<Network>& network, int family, int flags, Ports& ports,
            int protocol)
      : InetDatagramSocket(network, family, protocol, flags, ports, Binder::Protocol::kDatagram),
        ports_(ports) {}

  Errno bind(Caller& caller, const Places&, const SocketAddress& address) override {
    const Endpoint wanted = GUEST_TRY(parse_endpoint(address, family()));
    std::lock_guard lock(binding_);
    GUEST_TRY(binder_.bind(shared_from_this(), caller, wanted, reuse_address_.load(),
                           reuse_port_.load()));
    if (!has_outside()) return kOk;
    if (wanted.is_loopback() && !network_->shares_loopback) return kOk;
    // What is open to all hears those outside as well.
    const Endpoint local = binder_.local();
    ErrnoOr<HostEndPtr> end = make_outside(host::NetRequest::kBind, &local, nullptr);
    if (!end.ok()) {
      binder_.release(*this);
      return end.error();
    }
    std::lock_guard guard(mutex_);
    outside_ = std::move(end).value();
    return kOk;
  }

  Errno connect(Caller& caller, const Places&, const SocketAddress& address) override {
    if (address.length < sizeof(uint16_t)) return Errno(EINVAL);
    if (address.family() == AF_UNSPEC) {
      std::lock_guard lock(binding_);
      std::lock_guard guard(mutex_);
      peer_.reset();
      ports_.set_peer(*this, {});
      outside_peer_ = false;
      if (chosen_) binder_.release(*this);
      chosen_ = false;
      return kOk;
    }
    const Endpoint to = destination(GUEST_TRY(parse_endpoint(address, family())));
    if (to.is_multicast()) {
      Endpoint local;
      {
        std::lock_guard lock(binding_);
        local = binder_.bound() ? binder_.local() : binder_.any();
      }
      const Interface* device =
          options_.device_for_group(to, GUEST_TRY(options_.ask(to, {})), local);
      if (device == nullptr || (is_loopback(*device) && !to.is_v4())) return Errno(ENETUNREACH);
      if (!is_loopback(*device)) return connect_outside(to);
    } else if (!is_ours(to) || (has_outside() && is_beside(*network_, ports_, to, false)))
      return connect_outside(to);
    std::lock_guard lock(binding_);
    GUEST_TRY(choose(caller));
    if (binder_.local().is_any()) {
      binder_.set_local(*this, source_for(to, 0));
      chosen_address_ = true;
    }
    ports_.set_peer(*this, to);
    std::lock_guard guard(mutex_);
    peer_ = to;
    return kOk;
  }

  ErrnoOr<size_t> send(Caller& caller, const Places*, const Outgoing& out) override {
    if ((out.flags & MSG_OOB) != 0) return Errno(EOPNOTSUPP);
    if (out.data.size() > longest()) return Errno(EMSGSIZE);
    Endpoint to;
    bool connected = false;
    {
      std::lock_guard lock(mutex_);
      if (error_ != 0) return Errno(std::exchange(error_, 0));
      if (no_sending_) return Errno(EPIPE);
      if (out.to == nullptr || out.to->length == 0) {
        if (!peer_) return Errno(EDESTADDRREQ);
        to = *peer_;
        connected = true;
      }
    }
    if (!connected) {
      // An IPv6 socket takes addresses of IPv4 as well.
      const bool inet = out.to->family() == AF_INET;
      to = GUEST_TRY(parse_endpoint(*out.to, inet ? AF_INET : family()));
      if (to.port == 0) return Errno(EINVAL);
      to = destination(to);
    }
    const PacketOptions::Asked asked = GUEST_TRY(options_.ask(to, out.control));
    if (to.is_multicast()) return send_to_group(caller, to, connected, asked, out);
    if (!is_ours(to) || (has_outside() && is_beside(*network_, ports_, to, false))) {
      if (asked.source && asked.source->is_loopback() && !network_->shares_loopback)
        return Errno(EINVAL);
      if (has_outside()) return send_outside(caller, to, connected, out);
      if (to == Endpoint::v4(INADDR_BROADCAST, to.port) && !broadcast_) return Errno(EACCES);
      return Errno(ENETUNREACH);
    }
    Endpoint from;
    {
      std::lock_guard lock(binding_);
      GUEST_TRY(choose(caller));
      from = binder_.local();
    }
    if (asked.source) from.address = asked.source->address;
    if (from.is_any() || from.is_multicast()) from = source_for(to, from.port);
    const SocketPtr found = ports_.find(to, false, &from);
    auto* target = static_cast<UdpSocket*>(found.get());
    if (target == nullptr || !target->hears(from)) {
      // Nobody there: the connected learn of it at their next call.
      if (connected) set_error(ECONNREFUSED);
      return out.data.size();
    }
    GUEST_TRY(target->take_in(caller, out, from, to, asked));
    return out.data.size();
  }

  ErrnoOr<SocketAddress> name() override {
    if (const HostEndPtr end = outside(); end && outside_peer_) {
      const host::NetAddress at = GUEST_TRY(host::net_name(end->fd()));
      const Endpoint own = GUEST_TRY(endpoint_of(at));
      return shown(own, family());
    }
    return InetDatagramSocket::name();
  }
  size_t longest() const override { return family() == AF_INET ? 65507 : 65487; }

  Errno set_option(Caller& caller, int level, int option,
                   std::span<const std::byte> value) override {
    if (level == IPPROTO_IPV6 && option == kIpv6Only && family() == AF_INET6) {
      const int on = GUEST_TRY(as_number(value));
      std::lock_guard lock(binding_);
      if (binder_.bound()) return Errno(EINVAL);
      binder_.set_v6_only(on != 0);
      return kOk;
    }
    if (level == SOL_SOCKET) return Socket::set_option(caller, level, option, value);
    if (level == IPPROTO_IP || level == IPPROTO_IPV6) {
      GUEST_TRY(options_.set(caller, level, option, value));
      if (const HostEndPtr end = outside()) pass_options(*end);
      return kOk;
    }
    if (protocol() == IPPROTO_UDPLITE &&
        GUEST_TRY(keep_option(kUdpLiteOptions, level, option, value)))
      return kOk;
    return Errno(ENOPROTOOPT);
  }
  ErrnoOr<std::vector<std::byte>> get_option(Caller& caller, int level, int option) override {
    if (level == IPPROTO_IPV6 && option == kIpv6Only && family() == AF_INET6)
      return from_number(binder_.v6_only() ? 1 : 0);
    if (level == SOL_SOCKET) return Socket::get_option(caller, level, option);
    if ((level == IPPROTO_IP && option == IP_MTU) ||
        (level == IPPROTO_IPV6 && option == IPV6_MTU && family() == AF_INET6)) {
      constexpr int kLoopbackMtu = 65536;
      std::lock_guard lock(mutex_);
      return peer_ ? ErrnoOr<std::vector<std::byte>>(from_number(kLoopbackMtu)) : Errno(ENOTCONN);
    }
    if (level == IPPROTO_IP || (level == IPPROTO_IPV6 && family() == AF_INET6))
      return options_.get(level, option);
    if (protocol() == IPPROTO_UDPLITE)
      if (const std::optional<int> kept = kept_option(kUdpLiteOptions, level, option))
        return from_number(*kept);
    return Errno(level == IPPROTO_UDP || level == IPPROTO_UDPLITE ? ENOPROTOOPT : EOPNOTSUPP);
  }
  Row row() override {
    Row row;
    std::lock_guard lock(binding_);
    row.local = binder_.bound() ? binder_.local() : binder_.any();
    std::lock_guard guard(mutex_);
    row.peer = peer_.value_or(binder_.any());
    row.state = peer_ ? 1 : 7;
    row.connected = binder_.bound();
    row.waiting = received_.bytes();
    return row;
  }

 protected:
  bool hears(const Endpoint& from) override {
    std::lock_guard lock(mutex_);
    return !peer_ || (peer_->address == from.address && peer_->port == from.port);
  }

 private:
  static bool is_loopback(const Interface& device) { return device.index == 1; }
  /// Puts a datagram into our queue.
  Errno take_in(Caller& caller, const Outgoing& out, const Endpoint& from, const Endpoint& to,
                const PacketOptions::Asked& asked) {
    Segment segment;
    segment.data.assign(out.data.begin(), out.data.end());
    segment.from = shown(from, family());
    segment.sender = ids_of(caller);
    segment.packet =
        Packet{to, 1, static_cast<uint8_t>(asked.hops), static_cast<uint8_t>(asked.traffic_class)};
    return deliver(std::move(segment), Full::kDrop);
  }
  /// By loopback to all of the sandbox that hear the group; by any other device it is the host's.
  ErrnoOr<size_t> send_to_group(Caller& caller, const Endpoint& to, bool connected,
                                const PacketOptions::Asked& asked, const Outgoing& out) {
    Endpoint from;
    {
      std::lock_guard lock(binding_);
      from = binder_.bound() ? binder_.local() : binder_.any();
    }
    const Interface* device = options_.device_for_group(to, asked, from);
    if (device == nullptr) return Errno(ENETUNREACH);
    if (!is_loopback(*device)) {
      if (asked.source && asked.source->is_loopback()) return Errno(EINVAL);
      if (has_outside()) return send_outside(caller, to, connected, out);
      return Errno(ENETUNREACH);
    }
    // Linux's loopback has no route for the groups of IPv6.
    if (!to.is_v4()) return Errno(ENETUNREACH);
    {
      std::lock_guard lock(binding_);
      GUEST_TRY(choose(caller));
      from = binder_.local();
    }
    if (asked.source) from.address = asked.source->address;
    if (from.is_any() || from.is_multicast()) from = source_for(to, from.port);
    if (!network_->groups.joined(to, device->index)) return out.data.size();
    for (const SocketPtr& found : ports_.find_group(to, from)) {
      auto* target = static_cast<UdpSocket*>(found.get());
      if (target->options_.hears_group(to, device->index))
        GUEST_TRY(target->take_in(caller, out, from, to, asked));
    }
    return out.data.size();
  }
  Errno choose(Caller& caller) {
    if (binder_.bound()) return kOk;
    GUEST_TRY(binder_.bind(shared_from_this(), caller, binder_.any(), false, false));
    chosen_ = true;
    return kOk;
  }
  ErrnoOr<HostEndPtr> make_outside(uint32_t op, const Endpoint* local, const Endpoint* remote) {
    using host::NetRequest;
    NetRequest request;
    request.op = op;
    request.type = SOCK_DGRAM;
    request.flags = (reuse_address_ ? NetRequest::kReuseAddress : 0U) |
                    (reuse_port_ ? NetRequest::kReusePort : 0U) |
                    (broadcast_ ? NetRequest::kBroadcast : 0U) |
                    (binder_.v6_only() ? NetRequest::kV6Only : 0U);
    HostEndPtr end = GUEST_TRY(network_->outside->make(request, local, remote, queue_));
    pass_options(*end);
    return end;
  }
  Errno connect_outside(const Endpoint& to) {
    if (!has_outside()) return Errno(ENETUNREACH);
    std::lock_guard lock(binding_);
    HostEndPtr end;
    // One that is bound keeps its socket, and its peer is kept to here.
    if (!outside()) end = GUEST_TRY(make_outside(host::NetRequest::kConnect, nullptr, &to));
    std::lock_guard guard(mutex_);
    if (end) outside_ = std::move(end);
    outside_peer_ = true;
    ports_.set_peer(*this, to);
    peer_ = to;
    return kOk;
  }
  ErrnoOr<size_t> send_outside(Caller& caller, const Endpoint& to, bool connected,
                               const Outgoing& out) {
    HostEndPtr end = outside();
    if (!end) {
      std::lock_guard lock(binding_);
      const Endpoint any = to.is_v4() ? Endpoint::v4(0, 0) : Endpoint::v6_any(0);
      end = GUEST_TRY(make_outside(host::NetRequest::kBind, &any, nullptr));
      std::lock_guard guard(mutex_);
      outside_ = end;
    }
    const host::NetAddress own = GUEST_TRY(host::net_name(end->fd()));
    const ErrnoOr<Endpoint> own_at = endpoint_of(own);
    const bool four = own_at.ok() && own.length == sizeof(sockaddr_in);
    const bool has_peer = connected && host::net_peer(end->fd()).ok();
    const host::NetAddress address = net_address(to, four ? AF_INET : AF_INET6);
    return send_by(*end, caller, out.data, has_peer ? nullptr : &address, out);
  }
  /// UDP-Lite stays within the sandbox.
  bool has_outside() const { return network_->outside != nullptr && protocol() == IPPROTO_UDP; }

  Ports& ports_;
  // Under binding_:
  bool chosen_ = false;
  bool chosen_address_ = false;
  std::atomic<bool> outside_peer_{false};
};

}  // namespace

SocketPtr make_udp_socket(const std::shared_ptr<Network>& network, int family, int flags,
                          Ports& ports, int protocol) {
  return std::make_shared<UdpSocket>(network, family, flags, ports, protocol);
}

}  // namespace fluyt::guest
