#include "cri/image_service.h"
#include "cri/runtime_service.h"
// after api.h
#include "cri/service.h"

namespace fluyt::cri {

std::unique_ptr<grpc::Service> make_runtime_service(engine::Engine& engine, streaming::Urls& urls,
                                                    std::function<ServerInfo()> info) {
  return std::make_unique<RuntimeService>(engine, urls, std::move(info));
}

std::unique_ptr<grpc::Service> make_image_service(engine::Engine& engine) {
  return std::make_unique<ImageService>(engine);
}

}  // namespace fluyt::cri
