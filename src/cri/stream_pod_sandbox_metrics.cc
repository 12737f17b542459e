#include "cri/runtime_service.h"
// after api.h
#include "cri/batches.h"
#include "cri/to_api.h"

namespace fluyt::cri {

grpc::Status RuntimeService::StreamPodSandboxMetrics(
    grpc::ServerContext* /*context*/, const api::StreamPodSandboxMetricsRequest* /*request*/,
    grpc::ServerWriter<api::StreamPodSandboxMetricsResponse>* writer) {
  return send_in_batches<api::StreamPodSandboxMetricsResponse>(
      *writer, engine_.list_sandbox_metrics(), [](auto& batch, const auto& metrics) -> auto& {
        auto& added = *batch.add_pod_sandbox_metrics();
        fill(metrics, added);
        return added;
      });
}

}  // namespace fluyt::cri
