#include "guest/net/binder.h"

#include <netinet/in.h>
#include <sys/socket.h>

#include "guest/net/outside.h"

namespace fluyt::guest {

bool is_ours(const Endpoint& at) { return at.is_loopback() || at.is_any(); }

bool is_beside(const Network& network, Ports& ports, const Endpoint& at, bool listening) {
  return network.shares_loopback && network.outside != nullptr && at.is_loopback() &&
         ports.find(at, listening) == nullptr;
}

Endpoint source_for(const Endpoint& to, uint16_t port) {
  if (to.is_v4()) return Endpoint::v4(INADDR_LOOPBACK, port);
  Endpoint out;
  out.address[15] = 1;
  out.port = port;
  return out;
}

Endpoint destination(Endpoint to) {
  if (to.is_any()) to.address = source_for(to, 0).address;
  return to;
}

bool is_inet_level(int level) {
  return level == IPPROTO_IP || level == IPPROTO_IPV6 || level == IPPROTO_TCP ||
         level == IPPROTO_UDP || level == IPPROTO_UDPLITE;
}

void Binder::set_local(const Socket& socket, const Endpoint& at) {
  local_.address = at.address;
  ports_.set_address(socket, at);
}

Errno Binder::bind(const SocketPtr& socket, const Caller& caller, const Endpoint& wanted,
                   bool reuse_address, bool reuse_port) {
  if (bound_) return Errno(EINVAL);
  if (wanted.is_v4() && family_ == AF_INET6 && v6_only_) return Errno(EINVAL);
  const bool is_group = wanted.is_multicast() && protocol_ != Protocol::kEcho;
  if (!is_ours(wanted) && !is_group && !network_.has_address(wanted)) return Errno(EADDRNOTAVAIL);
  constexpr uint16_t kFirstFree = 1024;
  if (protocol_ != Protocol::kEcho && wanted.port != 0 && wanted.port < kFirstFree &&
      !caller.credentials.can(kCapNetBindService))
    return Errno(EACCES);
  Ports::Binding binding;
  binding.at = wanted;
  binding.v6 = family_ == AF_INET6;
  binding.v6_only = v6_only_;
  // UDP has no listeners: there, either option lets all share.
  binding.reuse_address = reuse_address;
  binding.reuse_port = reuse_port || (protocol_ != Protocol::kStream && reuse_address);
  binding.balances = reuse_port;
  binding.uid = caller.credentials.euid;
  binding.socket = socket.get();
  binding.weak = socket;
  GUEST_TRY(ports_.bind(binding));
  local_ = binding.at;
  bound_ = true;
  return kOk;
}

void Binder::release(const Socket& socket) {
  if (bound_) ports_.release(socket);
  bound_ = false;
}

}  // namespace fluyt::guest
