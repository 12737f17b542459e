#include "cri/image_service.h"
// after api.h
#include "cri/errors.h"
#include "cri/to_api.h"

namespace fluyt::cri {

grpc::Status ImageService::ListImages(grpc::ServerContext* /*context*/,
                                      const api::ListImagesRequest* request,
                                      api::ListImagesResponse* response) {
  const std::string& wanted = request->filter().image().image();
  if (!wanted.empty()) {
    const auto image = engine_.find_image(wanted);
    if (!image.ok()) return to_status(image.error());
    if (*image) fill(**image, *response->add_images());
    return grpc::Status::OK;
  }
  const auto images = engine_.list_images();
  if (!images.ok()) return to_status(images.error());
  for (const auto& image : *images) fill(image, *response->add_images());
  return grpc::Status::OK;
}

}  // namespace fluyt::cri
