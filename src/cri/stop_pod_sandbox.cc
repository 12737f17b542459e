#include "cri/runtime_service.h"
// after api.h
#include "rpc/status.h"

namespace fluyt::cri {

grpc::Status RuntimeService::StopPodSandbox(grpc::ServerContext* /*context*/,
                                            const api::StopPodSandboxRequest* request,
                                            api::StopPodSandboxResponse* /*response*/) {
  return to_status(engine_.stop_sandbox(request->pod_sandbox_id()));
}

}  // namespace fluyt::cri
