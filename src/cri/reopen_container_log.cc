#include "cri/runtime_service.h"
// after api.h
#include "rpc/status.h"

namespace fluyt::cri {

grpc::Status RuntimeService::ReopenContainerLog(grpc::ServerContext* /*context*/,
                                                const api::ReopenContainerLogRequest* request,
                                                api::ReopenContainerLogResponse* /*response*/) {
  return to_status(engine_.reopen_log(request->container_id()));
}

}  // namespace fluyt::cri
