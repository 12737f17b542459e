#pragma once

#include <memory>

#include "streaming/client.h"
#include "streaming/context.h"

namespace fluyt::streaming {

/// A new process in a container, its streams the client's. When the client goes, its terminal hangs
/// up, or its pipes close, and what has not ended soon after is killed.
std::shared_ptr<Relay> make_exec(Context& context, ExecCall call, Client& client);

}  // namespace fluyt::streaming
