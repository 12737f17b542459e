#include "cri/runtime_service.h"
// after api.h

namespace fluyt::cri {

grpc::Status RuntimeService::RuntimeConfig(grpc::ServerContext* /*context*/,
                                           const api::RuntimeConfigRequest* /*request*/,
                                           api::RuntimeConfigResponse* response) {
  const bool systemd = engine_.options().cgroup_driver == engine::CgroupDriver::kSystemd;
  response->mutable_linux()->set_cgroup_driver(systemd ? api::SYSTEMD : api::CGROUPFS);
  return grpc::Status::OK;
}

}  // namespace fluyt::cri
