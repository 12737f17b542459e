#include "cri/runtime_service.h"
// after api.h
#include "base/strings.h"
#include "cri/from_api.h"
#include "rpc/status.h"

namespace fluyt::cri {

grpc::Status RuntimeService::CreateContainer(grpc::ServerContext* context,
                                             const api::CreateContainerRequest* request,
                                             api::CreateContainerResponse* response) {
  const std::string& handler = request->config().image().runtime_handler();
  if (auto checked = engine_.check_runtime_handler(handler); !checked.ok())
    return to_status(std::move(checked).error().add_context("image"));
  for (int i = 0; i < request->config().mounts_size(); ++i) {
    const std::string& of_volume = request->config().mounts(i).image().runtime_handler();
    if (auto checked = engine_.check_runtime_handler(of_volume); !checked.ok())
      return to_status(std::move(checked).error().add_context(cat("mounts[", i, "].image")));
  }
  const auto config = container_config(request->config());
  if (!config.ok()) return to_status(config.error());
  auto id = engine_.create_container(request->pod_sandbox_id(), *config,
                                     [context] { return context->IsCancelled(); });
  if (!id.ok()) return to_status(id.error());
  response->set_container_id(std::move(id).value());
  return grpc::Status::OK;
}

}  // namespace fluyt::cri
