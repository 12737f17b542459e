#include "cri/runtime_service.h"
// after api.h
#include "rpc/status.h"

namespace fluyt::cri {

grpc::Status RuntimeService::StartContainer(grpc::ServerContext* /*context*/,
                                            const api::StartContainerRequest* request,
                                            api::StartContainerResponse* /*response*/) {
  return to_status(engine_.start_container(request->container_id()));
}

}  // namespace fluyt::cri
