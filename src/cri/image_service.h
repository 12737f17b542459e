#pragma once

#include "cri/api.h"
// after api.h
#include "engine/engine.h"

namespace fluyt::cri {

class ImageService final : public api::ImageService::Service {
 public:
  explicit ImageService(engine::Engine& engine) : engine_(engine) {}

#define FLUYT_RPC(Name)                                                              \
  grpc::Status Name(grpc::ServerContext* context, const api::Name##Request* request, \
                    api::Name##Response* response) override
  FLUYT_RPC(ListImages);
  FLUYT_RPC(ImageStatus);
  FLUYT_RPC(PullImage);
  FLUYT_RPC(RemoveImage);
  FLUYT_RPC(ImageFsInfo);
#undef FLUYT_RPC
  grpc::Status StreamImages(grpc::ServerContext* context, const api::StreamImagesRequest* request,
                            grpc::ServerWriter<api::StreamImagesResponse>* writer) override;

 private:
  /// One image, or none, where a name or id is asked for; else all.
  Result<std::vector<image::Image>> select_images(const api::ImageFilter& filter);
  engine::Engine& engine_;
};

}  // namespace fluyt::cri
