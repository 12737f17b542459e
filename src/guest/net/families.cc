#include <sys/socket.h>

#include "guest/net/inet.h"
#include "guest/net/netlink.h"
#include "guest/net/socket.h"
#include "guest/net/unix.h"

namespace fluyt::guest {
namespace {

constexpr size_t kMostSockets = 65536;  // of a sandbox
constexpr int kFamilies = 46;           // AF_MAX
constexpr int kTypes = 11;              // SOCK_MAX

Errno check(Network& network, int family, int type) {
  if (family < 0 || family >= kFamilies) return Errno(EAFNOSUPPORT);
  if (type < 0 || type >= kTypes) return Errno(EINVAL);
  if (network.count() >= kMostSockets) return Errno(ENFILE);
  return kOk;
}

}  // namespace

ErrnoOr<SocketPtr> make_socket(const std::shared_ptr<Network>& network, const Caller& caller,
                               int family, int type, int protocol, int flags) {
  GUEST_TRY(check(*network, family, type));
  switch (family) {
    case AF_UNIX:
      if (protocol != 0 && protocol != AF_UNIX) return Errno(EPROTONOSUPPORT);
      return make_unix_socket(network, type, flags);
    case AF_INET:
    case AF_INET6:
      return make_inet_socket(network, caller, family, type, protocol, flags);
    case AF_NETLINK:
      return make_netlink_socket(network, type, protocol, flags);
    default:
      return Errno(EAFNOSUPPORT);
  }
}

ErrnoOr<SocketPair> make_socket_pair(const std::shared_ptr<Network>& network, Caller& caller,
                                     int family, int type, int protocol, int flags) {
  GUEST_TRY(check(*network, family, type));
  if (family == AF_UNIX) {
    if (protocol != 0 && protocol != AF_UNIX) return Errno(EPROTONOSUPPORT);
    return make_unix_pair(network, caller, type, flags);
  }
  // Linux makes the sockets first, and then finds that they have no pairs.
  GUEST_TRY(make_socket(network, caller, family, type, protocol, flags));
  return Errno(EOPNOTSUPP);
}

}  // namespace fluyt::guest
