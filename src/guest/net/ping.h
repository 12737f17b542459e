#pragma once

#include "guest/net/socket.h"

namespace fluyt::guest {

/// ICMP echo of one family (icmp(7)). Whoever wants to may: ping_group_range holds every group.
SocketPtr make_ping_socket(const std::shared_ptr<Network>& network, int family, int flags);

}  // namespace fluyt::guest
