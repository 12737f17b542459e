#include "cri/runtime_service.h"
// after api.h
#include "cri/to_api.h"

namespace fluyt::cri {

grpc::Status RuntimeService::ListPodSandboxMetrics(
    grpc::ServerContext* /*context*/, const api::ListPodSandboxMetricsRequest* /*request*/,
    api::ListPodSandboxMetricsResponse* response) {
  for (const auto& metrics : engine_.list_sandbox_metrics()) {
    fill(metrics, *response->add_pod_metrics());
  }
  return grpc::Status::OK;
}

}  // namespace fluyt::cri
