#include "cri/runtime_service.h"
// after api.h
#include "cri/batches.h"
#include "cri/from_api.h"
#include "cri/to_api.h"

namespace fluyt::cri {

grpc::Status RuntimeService::StreamContainers(
    grpc::ServerContext* /*context*/, const api::StreamContainersRequest* request,
    grpc::ServerWriter<api::StreamContainersResponse>* writer) {
  const auto filter = container_filter(request->filter());
  if (!filter) return grpc::Status::OK;
  const auto containers = engine_.list_containers(*filter);
  return send_in_batches<api::StreamContainersResponse>(
      *writer, containers, [](auto& batch, const auto& container) -> auto& {
        auto& added = *batch.add_containers();
        fill(*container, added);
        return added;
      });
}

}  // namespace fluyt::cri
