#include "cri/image_service.h"
// after api.h
#include "cri/to_api.h"
#include "rpc/status.h"

namespace fluyt::cri {

grpc::Status ImageService::ImageFsInfo(grpc::ServerContext* /*context*/,
                                       const api::ImageFsInfoRequest* /*request*/,
                                       api::ImageFsInfoResponse* response) {
  const auto usage = engine_.image_fs_usage();
  if (!usage.ok()) return to_status(usage.error());
  // One disk holds layers and writable roots: what containers wrote comes on top of the images.
  fill(*usage, *response->add_image_filesystems());
  fill(engine_.with_written(*usage), *response->add_container_filesystems());
  return grpc::Status::OK;
}

}  // namespace fluyt::cri
