#include "cri/runtime_service.h"
// after api.h
#include "cri/batches.h"
#include "cri/from_api.h"
#include "cri/to_api.h"

namespace fluyt::cri {

grpc::Status RuntimeService::StreamPodSandboxes(
    grpc::ServerContext* /*context*/, const api::StreamPodSandboxesRequest* request,
    grpc::ServerWriter<api::StreamPodSandboxesResponse>* writer) {
  const auto sandboxes = engine_.list_sandboxes(sandbox_filter(request->filter()));
  return send_in_batches<api::StreamPodSandboxesResponse>(
      *writer, sandboxes, [](auto& batch, const auto& sandbox) -> auto& {
        auto& added = *batch.add_pod_sandboxes();
        fill(*sandbox, added);
        return added;
      });
}

}  // namespace fluyt::cri
