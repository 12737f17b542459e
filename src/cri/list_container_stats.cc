#include "cri/runtime_service.h"
// after api.h
#include "cri/from_api.h"
#include "cri/to_api.h"

namespace fluyt::cri {

grpc::Status RuntimeService::ListContainerStats(grpc::ServerContext* /*context*/,
                                                const api::ListContainerStatsRequest* request,
                                                api::ListContainerStatsResponse* response) {
  for (const auto& stats : engine_.list_container_stats(stats_filter(request->filter()))) {
    fill(stats, *response->add_stats());
  }
  return grpc::Status::OK;
}

}  // namespace fluyt::cri
