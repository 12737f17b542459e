#include "cri/runtime_service.h"
// after api.h
#include "cri/from_api.h"
#include "cri/to_api.h"

namespace fluyt::cri {

grpc::Status RuntimeService::ListContainers(grpc::ServerContext* /*context*/,
                                            const api::ListContainersRequest* request,
                                            api::ListContainersResponse* response) {
  const auto filter = container_filter(request->filter());
  if (!filter) return grpc::Status::OK;
  for (const auto& container : engine_.list_containers(*filter)) {
    fill(*container, *response->add_containers());
  }
  return grpc::Status::OK;
}

}  // namespace fluyt::cri
