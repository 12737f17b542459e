#include "cri/image_service.h"
// after api.h
#include "cri/from_api.h"
#include "rpc/status.h"

namespace fluyt::cri {

grpc::Status ImageService::RemoveImage(grpc::ServerContext* /*context*/,
                                       const api::RemoveImageRequest* request,
                                       api::RemoveImageResponse* /*response*/) {
  if (auto checked = check_image_spec("image", request->image()); !checked.ok())
    return to_status(checked);
  return to_status(engine_.remove_image(request->image().image()));
}

}  // namespace fluyt::cri
