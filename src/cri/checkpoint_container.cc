#include "cri/runtime_service.h"
// after api.h
#include "rpc/status.h"

namespace fluyt::cri {

grpc::Status RuntimeService::CheckpointContainer(grpc::ServerContext* /*context*/,
                                                 const api::CheckpointContainerRequest* request,
                                                 api::CheckpointContainerResponse* /*response*/) {
  constexpr int64_t kMaxSeconds = 24 * 3600;
  if (request->timeout() < 0 || request->timeout() > kMaxSeconds) {
    return {grpc::StatusCode::INVALID_ARGUMENT,
            "timeout: " + std::to_string(request->timeout()) + ": expected 0 to 86400 seconds"};
  }
  return to_status(engine_.checkpoint_container(request->container_id(), request->location(),
                                                request->timeout() * 1000));
}

}  // namespace fluyt::cri
