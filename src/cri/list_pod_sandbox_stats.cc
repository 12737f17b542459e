#include "cri/runtime_service.h"
// after api.h
#include "cri/from_api.h"
#include "cri/to_api.h"

namespace fluyt::cri {

grpc::Status RuntimeService::ListPodSandboxStats(grpc::ServerContext* /*context*/,
                                                 const api::ListPodSandboxStatsRequest* request,
                                                 api::ListPodSandboxStatsResponse* response) {
  for (const auto& stats : engine_.list_sandbox_stats(stats_filter(request->filter()))) {
    fill(stats, *response->add_stats());
  }
  return grpc::Status::OK;
}

}  // namespace fluyt::cri
