#include "cri/runtime_service.h"
// after api.h
#include "cri/from_api.h"
#include "cri/to_api.h"

namespace fluyt::cri {

grpc::Status RuntimeService::ListPodSandbox(grpc::ServerContext* /*context*/,
                                            const api::ListPodSandboxRequest* request,
                                            api::ListPodSandboxResponse* response) {
  for (const auto& sandbox : engine_.list_sandboxes(sandbox_filter(request->filter()))) {
    fill(*sandbox, *response->add_items());
  }
  return grpc::Status::OK;
}

}  // namespace fluyt::cri
