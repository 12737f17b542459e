#pragma once

#include "guest/net/socket.h"

namespace fluyt::guest {

/// netlink(7): NETLINK_ROUTE, whose questions are answered and whose changes are refused.
ErrnoOr<SocketPtr> make_netlink_socket(const std::shared_ptr<Network>& network, int type,
                                       int protocol, int flags);

}  // namespace fluyt::guest
