#pragma once

#include <memory>

#include "base/result.h"
#include "guest/net/network.h"
#include "guest/platform/host/net_broker.h"
#include "guest/platform/host/poller.h"
#include "guest/sandbox/sandbox.h"

namespace fluyt::guest {

/// The broker of sockets and what the namespace looked like; nothing when there is loopback alone.
struct WayOut {
  std::unique_ptr<host::NetBroker> broker;
  bool shares_loopback = false;
  host::NetView view;
};
/// Before any thread exists, and before confinement.
Result<WayOut> open_way_out(SandboxNetwork network);
/// Before the first program.
void install(WayOut way, const std::shared_ptr<host::Poller>& poller, Network& network);

}  // namespace fluyt::guest
