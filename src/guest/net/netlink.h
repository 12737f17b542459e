#pragma once

#include <cstddef>
#include <vector>

#include "guest/net/socket.h"

namespace fluyt::guest {

/// netlink(7): NETLINK_ROUTE, whose questions are answered and whose changes are refused.
ErrnoOr<SocketPtr> make_netlink_socket(const std::shared_ptr<Network>& network, int type,
                                       int protocol, int flags);
/// Bytes of the kernel's own for who reads such a socket (mq_notify(3)), however much waits there
/// already. EINVAL: it is another's; ENOBUFS: the sandbox's sockets hold no more.
Errno tell_netlink(Socket& socket, std::vector<std::byte> bytes);

}  // namespace fluyt::guest
