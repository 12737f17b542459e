#include "cri/runtime_service.h"
// after api.h
#include "cri/to_api.h"
#include "rpc/status.h"

namespace fluyt::cri {

grpc::Status RuntimeService::PodSandboxStats(grpc::ServerContext* /*context*/,
                                             const api::PodSandboxStatsRequest* request,
                                             api::PodSandboxStatsResponse* response) {
  const auto stats = engine_.sandbox_stats(request->pod_sandbox_id());
  if (!stats.ok()) return to_status(stats.error());
  fill(*stats, *response->mutable_stats());
  return grpc::Status::OK;
}

}  // namespace fluyt::cri
