#include "cri/runtime_service.h"
// after api.h
#include "cri/from_api.h"
#include "rpc/status.h"

namespace fluyt::cri {

/// The kubelet has changed the pod's cgroup already: what it tells us is for our records.
grpc::Status RuntimeService::UpdatePodSandboxResources(
    grpc::ServerContext* /*context*/, const api::UpdatePodSandboxResourcesRequest* request,
    api::UpdatePodSandboxResourcesResponse* /*response*/) {
  const auto overhead = pod_resources("overhead", request->has_overhead(), request->overhead());
  if (!overhead.ok()) return to_status(overhead.error());
  const auto now = pod_resources("resources", request->has_resources(), request->resources());
  if (!now.ok()) return to_status(now.error());
  return to_status(engine_.update_sandbox(request->pod_sandbox_id(), *overhead, *now));
}

}  // namespace fluyt::cri
