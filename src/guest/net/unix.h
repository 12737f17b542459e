#pragma once

#include "guest/net/socket.h"

namespace fluyt::guest {

ErrnoOr<SocketPtr> make_unix_socket(const std::shared_ptr<Network>& network, int type, int flags);
ErrnoOr<SocketPair> make_unix_pair(const std::shared_ptr<Network>& network, Caller& caller,
                                   int type, int flags);

}  // namespace fluyt::guest
