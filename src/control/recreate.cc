#include "control/service.h"
#include "rpc/status.h"

namespace fluyt::control {

grpc::Status ControlService::Recreate(grpc::ServerContext* /*context*/,
                                      const v1::RecreateRequest* request,
                                      v1::RecreateResponse* /*response*/) {
  const auto made = engine_.recreate_container(request->container_id());
  return made.ok() ? grpc::Status::OK : to_status(made.error());
}

}  // namespace fluyt::control
