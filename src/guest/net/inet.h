#pragma once

#include "guest/net/socket.h"

namespace fluyt::guest {

/// TCP and UDP of both Internet families, on loopback.
ErrnoOr<SocketPtr> make_inet_socket(const std::shared_ptr<Network>& network, const Caller& caller,
                                    int family, int type, int protocol, int flags);

}  // namespace fluyt::guest
