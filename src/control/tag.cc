#include "control/image_message.h"
#include "control/service.h"
#include "rpc/status.h"

namespace fluyt::control {

grpc::Status ControlService::Tag(grpc::ServerContext* /*context*/, const v1::TagRequest* request,
                                 v1::TagResponse* response) {
  const auto image = images_.tag(request->image(), request->name());
  if (!image.ok()) return to_status(image.error());
  fill(*image, *response->mutable_image());
  return grpc::Status::OK;
}

}  // namespace fluyt::control
