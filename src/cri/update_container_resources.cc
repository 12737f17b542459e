#include "cri/runtime_service.h"
// after api.h
#include "cri/from_api.h"
#include "rpc/status.h"

namespace fluyt::cri {

grpc::Status RuntimeService::UpdateContainerResources(
    grpc::ServerContext* /*context*/, const api::UpdateContainerResourcesRequest* request,
    api::UpdateContainerResourcesResponse* /*response*/) {
  if (!request->has_linux()) {
    return {grpc::StatusCode::INVALID_ARGUMENT, "linux: not set: expected resources"};
  }
  const auto wanted = resources(request->linux());
  if (!wanted.ok()) return to_status(wanted.error());
  return to_status(engine_.update_container(request->container_id(), *wanted));
}

}  // namespace fluyt::cri
