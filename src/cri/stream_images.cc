#include "cri/image_service.h"
// after api.h
#include "cri/batches.h"
#include "cri/to_api.h"
#include "rpc/status.h"

namespace fluyt::cri {

grpc::Status ImageService::StreamImages(grpc::ServerContext* /*context*/,
                                        const api::StreamImagesRequest* request,
                                        grpc::ServerWriter<api::StreamImagesResponse>* writer) {
  const auto images = select_images(request->filter());
  if (!images.ok()) return to_status(images.error());
  return send_in_batches<api::StreamImagesResponse>(*writer, *images,
                                                    [](auto& batch, const auto& image) -> auto& {
                                                      auto& added = *batch.add_images();
                                                      fill(image, added);
                                                      return added;
                                                    });
}

}  // namespace fluyt::cri
