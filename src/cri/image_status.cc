#include "cri/image_service.h"
// after api.h
#include "cri/from_api.h"
#include "cri/info.h"
#include "cri/to_api.h"
#include "rpc/status.h"

namespace fluyt::cri {

grpc::Status ImageService::ImageStatus(grpc::ServerContext* /*context*/,
                                       const api::ImageStatusRequest* request,
                                       api::ImageStatusResponse* response) {
  const std::string& name = request->image().image();
  if (auto checked = check_image_spec("image", request->image()); !checked.ok())
    return to_status(checked);
  const auto image = engine_.find_image(name);
  if (!image.ok()) return to_status(image.error());
  if (!*image) return grpc::Status::OK;  // CRI: absent is an answer without an image
  fill(**image, *response->mutable_image());
  if (request->verbose()) {
    const auto& config = (*image)->config.config;
    const nlohmann::json info = {{"manifestDigest", (*image)->manifest_digest},
                                 {"entrypoint", config.entrypoint},
                                 {"cmd", config.cmd},
                                 {"env", config.env},
                                 {"workingDir", config.working_dir},
                                 {"labels", config.labels},
                                 {"platform", (*image)->config.platform.text()}};
    (*response->mutable_info())["info"] = dump(info);
  }
  return grpc::Status::OK;
}

}  // namespace fluyt::cri
