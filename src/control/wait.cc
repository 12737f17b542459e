#include "base/strings.h"
#include "control/service.h"
#include "rpc/status.h"

namespace fluyt::control {

grpc::Status ControlService::Wait(grpc::ServerContext* context, const v1::WaitRequest* request,
                                  v1::WaitResponse* response) {
  // Its end is told of one that goes with it, too.
  const auto exit = engine_.watch_exit(request->container_id());
  if (!exit.ok()) return to_status(exit.error());
  while (true) {
    const engine::ContainerPtr container = (*exit)(Deadline::after_ms(kLookMs));
    const engine::Container& value = *container;
    if (value.state == engine::ContainerState::kExited) {
      response->set_exit_code(value.exit_code);
      response->set_reason(value.reason);
      response->set_message(value.message);
      return grpc::Status::OK;
    }
    if (context->IsCancelled()) return {grpc::StatusCode::CANCELLED, "the caller went away"};
  }
}

grpc::Status ControlService::Signal(grpc::ServerContext* /*context*/,
                                    const v1::SignalRequest* request,
                                    v1::SignalResponse* /*response*/) {
  if (request->signal() < 1 || request->signal() > 64) {
    return {grpc::StatusCode::INVALID_ARGUMENT,
            cat("signal: 1 to 64 is expected, not ", request->signal())};
  }
  auto sent = engine_.signal_container(request->container_id(), request->signal());
  return sent.ok() ? grpc::Status::OK : to_status(sent.error());
}

}  // namespace fluyt::control
