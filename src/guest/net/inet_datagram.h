#pragma once

#include <optional>

#include "guest/net/binder.h"
#include "guest/net/datagram.h"
#include "guest/net/outside.h"
#include "guest/net/packet.h"

namespace fluyt::guest {

/// What UDP and ICMP echo sockets have in common: an endpoint, perhaps a peer, messages from within
/// the sandbox in a queue, and behind them those of a socket of the host's.
class InetDatagramSocket : public DatagramSocket {
 public:
  InetDatagramSocket(const std::shared_ptr<Network>& network, int family, int protocol, int flags,
                     Ports& ports, Binder::Protocol bound_as);
  ~InetDatagramSocket() override;

  Errno shutdown(int how) override;
  ErrnoOr<Incoming> receive(Caller& caller, std::span<std::byte> to, int flags) override;
  uint32_t ready(uint32_t wanted) override;
  ErrnoOr<SocketAddress> name() override;
  ErrnoOr<SocketAddress> peer_name() override;

 protected:
  void describe(const Segment& segment, Incoming& in) override;
  bool full() const override;
  /// True for a message from there when there is a peer to hear alone.
  virtual bool hears(const Endpoint& from) = 0;
  /// A message of the host's, before the guest sees it and where it is from.
  virtual void from_host(std::span<std::byte> /*message*/, Endpoint& /*from*/) {}

  /// The host's socket; null when there is none.
  HostEndPtr outside();
  /// Sets the options and groups that a socket of the host's has to know of.
  void pass_options(HostEnd& end);
  /// Sends by the host's socket, to its peer when `address` is null; waits as `out` says.
  ErrnoOr<size_t> send_by(HostEnd& end, Caller& caller, std::span<const std::byte> message,
                          const host::NetAddress* address, const Outgoing& out);

  PacketOptions options_;
  std::mutex binding_;  // before mutex_
  Binder binder_;
  // Under mutex_:
  std::optional<Endpoint> peer_;
  HostEndPtr outside_;

 private:
  ErrnoOr<Incoming> receive_outside(HostEnd& end, std::span<std::byte> to, int flags);
};

}  // namespace fluyt::guest
