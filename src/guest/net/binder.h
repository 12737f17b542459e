#pragma once

#include <netinet/in.h>

#include "guest/net/network.h"
#include "guest/net/socket.h"

namespace fluyt::guest {

/// Where something of ours listens. Everything else is beyond the loopback device.
bool is_ours(const Endpoint& at);
/// On a loopback that the sandbox shares with others, and nobody of ours is there.
bool is_beside(const Network& network, Ports& ports, const Endpoint& at, bool listening);
/// Who a packet to `to` comes from when its sender is bound to no address.
Endpoint source_for(const Endpoint& to, uint16_t port);
/// An unspecified address as a destination is this machine.
Endpoint destination(Endpoint to);
bool is_inet_level(int level);

inline constexpr int kIpv6Only = 26;  // IPV6_V6ONLY

/// What every socket of the Internet families does about its own address.
class Binder {
 public:
  enum class Protocol : uint8_t { kStream, kDatagram, kEcho };
  Binder(const Network& network, Ports& ports, int family, Protocol protocol)
      : network_(network), ports_(ports), family_(family), protocol_(protocol) {}

  Ports& ports() { return ports_; }
  bool bound() const { return bound_; }
  bool v6_only() const { return v6_only_; }
  void set_v6_only(bool on) { v6_only_ = on; }
  const Endpoint& local() const { return local_; }
  void set_local(const Socket& socket, const Endpoint& at);

  Errno bind(const SocketPtr& socket, const Caller& caller, const Endpoint& wanted,
             bool reuse_address, bool reuse_port);
  void release(const Socket& socket);
  Endpoint any() const { return family_ == AF_INET ? Endpoint::v4(0, 0) : Endpoint::v6_any(0); }

 private:
  const Network& network_;
  Ports& ports_;
  const int family_;
  const Protocol protocol_;
  bool bound_ = false;
  bool v6_only_ = false;
  Endpoint local_;
};

}  // namespace fluyt::guest
