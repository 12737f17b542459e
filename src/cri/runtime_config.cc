#include "cri/runtime_service.h"
// after api.h

namespace fluyt::cri {

grpc::Status RuntimeService::RuntimeConfig(grpc::ServerContext* /*context*/,
                                           const api::RuntimeConfigRequest* /*request*/,
                                           api::RuntimeConfigResponse* response) {
  response->mutable_linux()->set_cgroup_driver(api::CGROUPFS);
  return grpc::Status::OK;
}

}  // namespace fluyt::cri
