#include "cri/runtime_service.h"
// after api.h
#include "rpc/status.h"

namespace fluyt::cri {

grpc::Status RuntimeService::Exec(grpc::ServerContext* /*context*/, const api::ExecRequest* request,
                                  api::ExecResponse* response) {
  streaming::ExecCall call{.container_id = request->container_id(),
                           .command = {request->cmd().begin(), request->cmd().end()},
                           .streams = {.in = request->stdin(),
                                       .out = request->stdout(),
                                       .err = request->stderr(),
                                       .terminal = request->tty()}};
  auto url = urls_.exec_url(std::move(call));
  if (!url.ok()) return to_status(url.error());
  response->set_url(std::move(*url));
  return grpc::Status::OK;
}

}  // namespace fluyt::cri
