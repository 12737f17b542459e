#include "cri/runtime_service.h"
// after api.h
#include "cri/batches.h"
#include "cri/from_api.h"
#include "cri/to_api.h"

namespace fluyt::cri {

grpc::Status RuntimeService::StreamContainerStats(
    grpc::ServerContext* /*context*/, const api::StreamContainerStatsRequest* request,
    grpc::ServerWriter<api::StreamContainerStatsResponse>* writer) {
  const auto all = engine_.list_container_stats(stats_filter(request->filter()));
  return send_in_batches<api::StreamContainerStatsResponse>(
      *writer, all, [](auto& batch, const auto& stats) -> auto& {
        auto& added = *batch.add_container_stats();
        fill(stats, added);
        return added;
      });
}

}  // namespace fluyt::cri
