#include "cri/runtime_service.h"
// after api.h
#include "rpc/status.h"

namespace fluyt::cri {

grpc::Status RuntimeService::RemoveContainer(grpc::ServerContext* /*context*/,
                                             const api::RemoveContainerRequest* request,
                                             api::RemoveContainerResponse* /*response*/) {
  return to_status(engine_.remove_container(request->container_id()));
}

}  // namespace fluyt::cri
