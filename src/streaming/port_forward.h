#pragma once

#include <memory>

#include "streaming/context.h"
#include "streaming/urls.h"
#include "streaming/wire.h"

namespace fluyt::streaming {

/// Any number of connections to ports of a sandbox over one SPDY session: each is a pair of streams
/// that name the port, one for its bytes and one for what went wrong.
std::shared_ptr<Wire::Handler> make_port_forward(Context& context, std::shared_ptr<Wire> wire,
                                                 PortForwardCall call);

}  // namespace fluyt::streaming
