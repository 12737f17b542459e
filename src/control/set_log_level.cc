#include "base/log_levels.h"
#include "control/service.h"
#include "rpc/status.h"

namespace fluyt::control {

grpc::Status ControlService::SetLogLevel(grpc::ServerContext* /*context*/,
                                         const v1::SetLogLevelRequest* request,
                                         v1::SetLogLevelResponse* response) {
  auto level = parse_log_level(request->level());
  if (!level.ok()) return to_status(std::move(level).error().add_context("level"));
  response->set_previous(std::string(log_level_name(daemon_.log_level())));
  daemon_.set_log_level(*level);
  return grpc::Status::OK;
}

}  // namespace fluyt::control
