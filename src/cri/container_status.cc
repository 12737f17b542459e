#include "cri/runtime_service.h"
// after api.h
#include "cri/info.h"
#include "cri/to_api.h"
#include "rpc/status.h"

namespace fluyt::cri {

grpc::Status RuntimeService::ContainerStatus(grpc::ServerContext* /*context*/,
                                             const api::ContainerStatusRequest* request,
                                             api::ContainerStatusResponse* response) {
  const auto found = engine_.get_container(request->container_id());
  if (!found.ok()) return to_status(found.error());
  const engine::Container& container = **found;
  fill(container, *response->mutable_status());
  if (!request->verbose()) return grpc::Status::OK;
  nlohmann::json cgroups = nlohmann::json::object();
  if (!container.cgroup.unified.empty()) cgroups["unified"] = container.cgroup.unified;
  for (const auto& [controller, dir] : container.cgroup.legacy) cgroups[controller] = dir;
  nlohmann::json info = {{"pid", container.pid},
                         {"sandboxID", container.sandbox_id},
                         {"argv", container.argv},
                         {"cgroups", cgroups}};
  // Of a container that is being made or removed there is none, and the rest is still true.
  if (const auto spec = engine_.runtime_spec(container.id); spec.ok())
    info["runtimeSpec"] = nlohmann::json::parse(*spec, nullptr, false);
  (*response->mutable_info())["info"] = dump(info);
  return grpc::Status::OK;
}

}  // namespace fluyt::cri
