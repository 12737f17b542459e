#include "cri/runtime_service.h"
// after api.h

namespace fluyt::cri {

grpc::Status RuntimeService::UpdateRuntimeConfig(grpc::ServerContext* /*context*/,
                                                 const api::UpdateRuntimeConfigRequest* /*request*/,
                                                 api::UpdateRuntimeConfigResponse* /*response*/) {
  // The kubelet hands over the node's pod range. It belongs to the network's configuration, which
  // is whoever installs CNI's to write; other engines take and drop it as well.
  return grpc::Status::OK;
}

}  // namespace fluyt::cri
