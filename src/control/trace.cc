#include "control/service.h"
#include "rpc/status.h"

namespace fluyt::control {

grpc::Status ControlService::Trace(grpc::ServerContext* /*context*/,
                                   const v1::TraceRequest* request, v1::TraceResponse* response) {
  const auto walks = engine_.walks_of(request->id());
  if (!walks.ok()) return to_status(walks.error());
  for (const trace::Walk& walk : *walks) {
    v1::TraceResponse::Walk& out = *response->add_walks();
    out.set_verb(walk.verb);
    out.set_sandbox_id(walk.sandbox_id);
    out.set_container_id(walk.container_id);
    out.set_began_unix_ns(walk.began_unix_ns);
    out.set_took_ns(walk.took_ns);
    out.set_error(walk.error);
    for (const trace::Part& part : walk.parts) {
      v1::TraceResponse::Part& made = *out.add_parts();
      made.set_name(part.name);
      made.set_begin_ns(part.begin_ns);
      made.set_took_ns(part.took_ns);
      made.set_depth(part.depth);
    }
  }
  return grpc::Status::OK;
}

}  // namespace fluyt::control
