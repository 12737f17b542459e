#include "cri/runtime_service.h"
// after api.h
#include "cri/batches.h"
#include "cri/from_api.h"
#include "cri/to_api.h"

namespace fluyt::cri {

grpc::Status RuntimeService::StreamPodSandboxStats(
    grpc::ServerContext* /*context*/, const api::StreamPodSandboxStatsRequest* request,
    grpc::ServerWriter<api::StreamPodSandboxStatsResponse>* writer) {
  const auto all = engine_.list_sandbox_stats(stats_filter(request->filter()));
  return send_in_batches<api::StreamPodSandboxStatsResponse>(
      *writer, all, [](auto& batch, const auto& stats) -> auto& {
        auto& added = *batch.add_pod_sandbox_stats();
        fill(stats, added);
        return added;
      });
}

}  // namespace fluyt::cri
