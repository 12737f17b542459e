#include "cri/runtime_service.h"
// after api.h
#include "rpc/status.h"

namespace fluyt::cri {

/// The ports of the request are of no use: each stream names its own, as it always did over SPDY.
grpc::Status RuntimeService::PortForward(grpc::ServerContext* /*context*/,
                                         const api::PortForwardRequest* request,
                                         api::PortForwardResponse* response) {
  auto url = urls_.port_forward_url({.sandbox_id = request->pod_sandbox_id()});
  if (!url.ok()) return to_status(url.error());
  response->set_url(std::move(*url));
  return grpc::Status::OK;
}

}  // namespace fluyt::cri
