#include "cri/runtime_service.h"
// after api.h
#include "rpc/status.h"

namespace fluyt::cri {

grpc::Status RuntimeService::RemovePodSandbox(grpc::ServerContext* /*context*/,
                                              const api::RemovePodSandboxRequest* request,
                                              api::RemovePodSandboxResponse* /*response*/) {
  return to_status(engine_.remove_sandbox(request->pod_sandbox_id()));
}

}  // namespace fluyt::cri
