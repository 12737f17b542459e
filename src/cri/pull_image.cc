#include "cri/image_service.h"
// after api.h
#include "base/strings.h"
#include "cri/credentials.h"
#include "cri/errors.h"

namespace fluyt::cri {

grpc::Status ImageService::PullImage(grpc::ServerContext* /*context*/,
                                     const api::PullImageRequest* request,
                                     api::PullImageResponse* response) {
  const api::ImageSpec& spec = request->image();
  if (spec.image().empty()) {
    return {grpc::StatusCode::INVALID_ARGUMENT, "image.image: \"\": expected a name"};
  }
  image::PullOptions options;
  auto credentials = credentials_of(request->auth());
  if (!credentials.ok()) return to_status(credentials.error());
  options.credentials = std::move(credentials).value();
  auto image = engine_.pull_image(spec.image(), options);
  if (!image.ok()) return to_status(image.error());
  response->set_image_ref(image->id);
  return grpc::Status::OK;
}

}  // namespace fluyt::cri
