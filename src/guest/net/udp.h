#pragma once

#include "guest/net/socket.h"

namespace fluyt::guest {

/// UDP and UDP-Lite, by the ports that they are given.
SocketPtr make_udp_socket(const std::shared_ptr<Network>& network, int family, int flags,
                          Ports& ports, int protocol);

}  // namespace fluyt::guest
