#pragma once

#include <memory>

#include "streaming/client.h"
#include "streaming/context.h"

namespace fluyt::streaming {

/// The streams of a container that runs. When the client goes, nothing happens to the container;
/// the end of its input is the monitor's to judge (stdin_once).
std::shared_ptr<Relay> make_attach(Context& context, AttachCall call, Client& client);

}  // namespace fluyt::streaming
