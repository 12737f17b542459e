#include "cri/runtime_service.h"
// after api.h
#include <algorithm>

#include "rpc/status.h"

namespace fluyt::cri {

grpc::Status RuntimeService::StopContainer(grpc::ServerContext* /*context*/,
                                           const api::StopContainerRequest* request,
                                           api::StopContainerResponse* /*response*/) {
  constexpr int64_t kMaxSeconds = 30LL * 24 * 3600;
  if (request->timeout() < 0) {
    return {grpc::StatusCode::INVALID_ARGUMENT,
            "timeout: " + std::to_string(request->timeout()) + ": expected 0 or more seconds"};
  }
  const int64_t seconds = std::min<int64_t>(request->timeout(), kMaxSeconds);
  return to_status(engine_.stop_container(request->container_id(), seconds * 1000));
}

}  // namespace fluyt::cri
