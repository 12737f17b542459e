#include "cri/runtime_service.h"
// after api.h
#include "rpc/status.h"

namespace fluyt::cri {

grpc::Status RuntimeService::Attach(grpc::ServerContext* /*context*/,
                                    const api::AttachRequest* request,
                                    api::AttachResponse* response) {
  streaming::AttachCall call{.container_id = request->container_id(),
                             .streams = {.in = request->stdin(),
                                         .out = request->stdout(),
                                         .err = request->stderr(),
                                         .terminal = request->tty()}};
  auto url = urls_.attach_url(std::move(call));
  if (!url.ok()) return to_status(url.error());
  response->set_url(std::move(*url));
  return grpc::Status::OK;
}

}  // namespace fluyt::cri
