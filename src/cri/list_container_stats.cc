#include "cri/runtime_service.h"
// after api.h
#include "cri/to_api.h"

namespace fluyt::cri {

grpc::Status RuntimeService::ListContainerStats(grpc::ServerContext* /*context*/,
                                                const api::ListContainerStatsRequest* request,
                                                api::ListContainerStatsResponse* response) {
  engine::ContainerFilter filter;
  filter.id = request->filter().id();
  filter.sandbox_id = request->filter().pod_sandbox_id();
  filter.labels = {request->filter().label_selector().begin(),
                   request->filter().label_selector().end()};
  for (const auto& stats : engine_.list_container_stats(filter)) {
    fill(stats, *response->add_stats());
  }
  return grpc::Status::OK;
}

}  // namespace fluyt::cri
