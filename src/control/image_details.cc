#include "base/strings.h"
#include "control/image_message.h"
#include "control/service.h"
#include "rpc/status.h"

namespace fluyt::control {

grpc::Status ControlService::ListImages(grpc::ServerContext* /*context*/,
                                        const v1::ListImagesRequest* /*request*/,
                                        v1::ListImagesResponse* response) {
  for (const auto& detail : images_.list_details()) fill(detail, *response->add_images());
  return grpc::Status::OK;
}

grpc::Status ControlService::InspectImage(grpc::ServerContext* /*context*/,
                                          const v1::InspectImageRequest* request,
                                          v1::InspectImageResponse* response) {
  const auto detail = images_.describe(request->name());
  if (!detail.ok()) return to_status(detail.error());
  if (!detail->has_value()) {
    return {grpc::StatusCode::NOT_FOUND, cat("no image ", quote(request->name()))};
  }
  fill(**detail, *response->mutable_image());
  response->set_config((*detail)->config_json);
  response->set_manifest((*detail)->manifest_json);
  return grpc::Status::OK;
}

grpc::Status ControlService::PruneImages(grpc::ServerContext* /*context*/,
                                         const v1::PruneImagesRequest* request,
                                         v1::PruneImagesResponse* response) {
  const auto which = request->all() ? image::Unused::kAll : image::Unused::kNameless;
  for (const auto& detail : images_.list_unused(which)) {
    // Through the engine, which tells of it.
    if (auto removed = engine_.remove_image(detail.image.id); !removed.ok()) {
      return to_status(removed.error());
    }
    fill(detail, *response->add_removed());
  }
  return grpc::Status::OK;
}

}  // namespace fluyt::control
