#include "control/service.h"
#include "rpc/status.h"

namespace fluyt::control {

grpc::Status ControlService::Untag(grpc::ServerContext* /*context*/,
                                   const v1::UntagRequest* request,
                                   v1::UntagResponse* /*response*/) {
  auto untagged = engine_.untag_image(request->name());
  return untagged.ok() ? grpc::Status::OK : to_status(untagged.error());
}

}  // namespace fluyt::control
