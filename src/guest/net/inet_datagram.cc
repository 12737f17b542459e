#include "guest/net/inet_datagram.h"

#include <poll.h>
#include <sys/socket.h>

#include <algorithm>
#include <iterator>

namespace fluyt::guest {

InetDatagramSocket::InetDatagramSocket(const std::shared_ptr<Network>& network, int family,
                                       int protocol, int flags, Ports& ports,
                                       Binder::Protocol bound_as)
    : DatagramSocket(network, family, SOCK_DGRAM, protocol, flags),
      options_(network, family, SOCK_DGRAM),
      binder_(*network, ports, family, bound_as) {}

InetDatagramSocket::~InetDatagramSocket() { binder_.release(*this); }

Errno InetDatagramSocket::shutdown(int how) {
  if (how < SHUT_RD || how > SHUT_RDWR) return Errno(EINVAL);
  {
    std::lock_guard lock(mutex_);
    if (!peer_) return Errno(ENOTCONN);
    if (how != SHUT_WR) no_receiving_ = true;
    if (how != SHUT_RD) no_sending_ = true;
  }
  queue_->wake_all();
  return kOk;
}

ErrnoOr<Socket::Incoming> InetDatagramSocket::receive(Caller& caller, std::span<std::byte> to,
                                                      int flags) {
  const Deadline deadline = receive_deadline();
  ErrnoOr<Incoming> got = Errno(EAGAIN);
  const auto attempt = [&] {
    got = DatagramSocket::receive(caller, to, flags | MSG_DONTWAIT);
    const HostEndPtr end = outside();
    if (!got.ok() && got.error().value() == EAGAIN && end && (flags & MSG_ERRQUEUE) == 0)
      got = receive_outside(*end, to, flags);
    return got.ok() || got.error().value() != EAGAIN;
  };
  if (!attempt() && !dont_wait(flags)) {
    const Errno waiting = wait_until(*queue_, caller.sleeper, deadline, attempt);
    if (!waiting.ok()) return waited(waiting, deadline);
  }
  return got;
}

ErrnoOr<Socket::Incoming> InetDatagramSocket::receive_outside(HostEnd& end, std::span<std::byte> to,
                                                              int flags) {
  host::NetReceived got = GUEST_TRY(
      host::net_receive(end.fd(), to, (flags & MSG_PEEK) != 0,
                        options_.describes() ? host::Details::kControl : host::Details::kNone));
  Endpoint from = GUEST_TRY(endpoint_of(got.from));
  if (!hears(from)) return Errno(EAGAIN);
  from_host(to.first(got.count), from);
  Incoming in;
  in.count = got.count;
  in.whole = got.whole;
  in.flags = in.whole > in.count ? MSG_TRUNC : 0;
  in.from = shown(from, family());
  tell_time(0, in.control);
  std::ranges::move(got.control, std::back_inserter(in.control));
  return in;
}

uint32_t InetDatagramSocket::ready(uint32_t wanted) {
  const uint32_t out = DatagramSocket::ready(wanted);
  const HostEndPtr end = outside();
  return end ? out | (end->ready() & (POLLIN | POLLRDNORM | POLLERR)) : out;
}

ErrnoOr<SocketAddress> InetDatagramSocket::name() {
  std::lock_guard lock(binding_);
  return shown(binder_.bound() ? binder_.local() : binder_.any(), family());
}

ErrnoOr<SocketAddress> InetDatagramSocket::peer_name() {
  std::lock_guard lock(mutex_);
  if (!peer_) return Errno(ENOTCONN);
  return shown(*peer_, family());
}

void InetDatagramSocket::describe(const Segment& segment, Incoming& in) {
  if (segment.packet) options_.describe(*segment.packet, in.control);
}

bool InetDatagramSocket::full() const {
  return received_.charged() >= static_cast<size_t>(receive_buffer_.load());
}

HostEndPtr InetDatagramSocket::outside() {
  std::lock_guard lock(mutex_);
  return outside_;
}

void InetDatagramSocket::pass_options(HostEnd& end) {
  for (const PacketOptions::Setting& one : options_.for_host())
    host::net_set_bytes(end.fd(), one.level, one.option, one.value)
        .ignore("what is set already is refused");
}

ErrnoOr<size_t> InetDatagramSocket::send_by(HostEnd& end, Caller& caller,
                                            std::span<const std::byte> message,
                                            const host::NetAddress* address, const Outgoing& out) {
  ErrnoOr<size_t> sent = Errno(EAGAIN);
  const auto attempt = [&] {
    sent = host::net_send(end.fd(), message, address, out.control);
    return sent.ok() || sent.error().value() != EAGAIN;
  };
  if (!attempt() && !dont_wait(out.flags)) {
    const Deadline deadline = send_deadline();
    const Errno waiting = wait_until(*queue_, caller.sleeper, deadline, attempt);
    if (!waiting.ok()) return waited(waiting, deadline);
  }
  return sent;
}

}  // namespace fluyt::guest
