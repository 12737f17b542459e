#include "cri/runtime_service.h"
// after api.h

namespace fluyt::cri {

grpc::Status RuntimeService::Version(grpc::ServerContext* /*context*/,
                                     const api::VersionRequest* /*request*/,
                                     api::VersionResponse* response) {
  constexpr const char* kKubeApiVersion = "0.1.0";  // what every CRI engine answers here
  response->set_version(kKubeApiVersion);
  response->set_runtime_name("fluyt");
  response->set_runtime_version(FLUYT_VERSION);
  response->set_runtime_api_version("v1");
  return grpc::Status::OK;
}

}  // namespace fluyt::cri
