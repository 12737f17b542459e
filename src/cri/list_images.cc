#include "cri/image_service.h"
// after api.h
#include "cri/to_api.h"
#include "rpc/status.h"

namespace fluyt::cri {

Result<std::vector<image::Image>> ImageService::select_images(const api::ImageFilter& filter) {
  const std::string& wanted = filter.image().image();
  if (wanted.empty()) return engine_.list_images();
  std::vector<image::Image> found;
  if (auto image = FLUYT_TRY(engine_.find_image(wanted))) found.push_back(std::move(*image));
  return found;
}

grpc::Status ImageService::ListImages(grpc::ServerContext* /*context*/,
                                      const api::ListImagesRequest* request,
                                      api::ListImagesResponse* response) {
  const auto images = select_images(request->filter());
  if (!images.ok()) return to_status(images.error());
  for (const auto& image : *images) fill(image, *response->add_images());
  return grpc::Status::OK;
}

}  // namespace fluyt::cri
