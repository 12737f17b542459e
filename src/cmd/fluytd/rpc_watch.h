#pragma once

#include <memory>
#include <vector>

#include "cmd/fluytd/metrics/counters.h"
#include "cmd/fluytd/tracing/tracing.h"

namespace grpc::experimental {
class ServerInterceptorFactoryInterface;
}

namespace fluyt::daemon {

/// For the server's builder: has every call counted in `calls`, and those in which a walk was made
/// told to `tracing`; both outlive the server. Calls that last as long as their caller wants to
/// listen are counted when they end, like all others.
std::unique_ptr<grpc::experimental::ServerInterceptorFactoryInterface> make_rpc_watch(
    CallTable& calls, Tracing& tracing);

}  // namespace fluyt::daemon
