#include "cri/runtime_service.h"
// after api.h
#include "cri/to_api.h"
#include "rpc/status.h"

namespace fluyt::cri {

grpc::Status RuntimeService::ContainerStats(grpc::ServerContext* /*context*/,
                                            const api::ContainerStatsRequest* request,
                                            api::ContainerStatsResponse* response) {
  const auto stats = engine_.container_stats(request->container_id());
  if (!stats.ok()) return to_status(stats.error());
  fill(*stats, *response->mutable_stats());
  return grpc::Status::OK;
}

}  // namespace fluyt::cri
