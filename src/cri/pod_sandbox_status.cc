#include "cri/runtime_service.h"
// after api.h
#include "cri/errors.h"
#include "cri/info.h"
#include "cri/to_api.h"

namespace fluyt::cri {

grpc::Status RuntimeService::PodSandboxStatus(grpc::ServerContext* /*context*/,
                                              const api::PodSandboxStatusRequest* request,
                                              api::PodSandboxStatusResponse* response) {
  const auto found = engine_.get_sandbox(request->pod_sandbox_id());
  if (!found.ok()) return to_status(found.error());
  const engine::Sandbox& sandbox = **found;
  fill(sandbox, *response->mutable_status());
  if (!request->verbose()) return grpc::Status::OK;
  nlohmann::json info = {{"monitorPid", sandbox.monitor_pid}, {"netns", sandbox.namespaces.network},
                         {"ipcns", sandbox.namespaces.ipc},   {"utsns", sandbox.namespaces.uts},
                         {"pidns", sandbox.namespaces.pid},   {"cniResult", sandbox.network_result},
                         {"reason", sandbox.reason}};
  (*response->mutable_info())["info"] = dump(info);
  return grpc::Status::OK;
}

}  // namespace fluyt::cri
