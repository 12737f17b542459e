#include "cri/image_service.h"
// after api.h
#include "cri/errors.h"

namespace fluyt::cri {

grpc::Status ImageService::RemoveImage(grpc::ServerContext* /*context*/,
                                       const api::RemoveImageRequest* request,
                                       api::RemoveImageResponse* /*response*/) {
  if (request->image().image().empty()) {
    return {grpc::StatusCode::INVALID_ARGUMENT, "image.image: \"\": expected a name or an id"};
  }
  return to_status(engine_.remove_image(request->image().image()));
}

}  // namespace fluyt::cri
