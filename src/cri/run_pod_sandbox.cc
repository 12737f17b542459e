#include "cri/runtime_service.h"
// after api.h
#include "cri/from_api.h"
#include "rpc/status.h"

namespace fluyt::cri {

grpc::Status RuntimeService::RunPodSandbox(grpc::ServerContext* context,
                                           const api::RunPodSandboxRequest* request,
                                           api::RunPodSandboxResponse* response) {
  const auto config = sandbox_config(request->config());
  if (!config.ok()) return to_status(config.error());
  auto id = engine_.run_sandbox(*config, request->runtime_handler(),
                                [context] { return context->IsCancelled(); });
  if (!id.ok()) return to_status(id.error());
  response->set_pod_sandbox_id(std::move(id).value());
  return grpc::Status::OK;
}

}  // namespace fluyt::cri
