#include "cri/runtime_service.h"
// after api.h
#include <google/protobuf/util/json_util.h>

#include "cri/info.h"
#include "cri/to_api.h"
#include "rpc/status.h"

namespace fluyt::cri {
namespace {

/// What is set, under CRI's own names.
nlohmann::json as_json(const engine::Resources& resources) {
  api::LinuxContainerResources message;
  fill(resources, message);
  std::string text;
  google::protobuf::util::JsonPrintOptions options;
  options.preserve_proto_field_names = true;
  if (!google::protobuf::util::MessageToJsonString(message, &text, options).ok()) return nullptr;
  return nlohmann::json::parse(text, nullptr, false);
}

}  // namespace

grpc::Status RuntimeService::PodSandboxStatus(grpc::ServerContext* /*context*/,
                                              const api::PodSandboxStatusRequest* request,
                                              api::PodSandboxStatusResponse* response) {
  // Before anything is read: what is told of later is newer than this answer.
  response->set_timestamp(now_unix_ns());
  const auto found = engine_.get_sandbox(request->pod_sandbox_id());
  if (!found.ok()) return to_status(found.error());
  const engine::Sandbox& sandbox = **found;
  fill(sandbox, *response->mutable_status());
  engine::ContainerFilter inside;
  inside.sandbox_id = sandbox.id;
  for (const auto& container : engine_.list_containers(inside)) {
    fill(*container, *response->add_containers_statuses());
  }
  if (!request->verbose()) return grpc::Status::OK;
  nlohmann::json info = {{"monitorPid", sandbox.monitor_pid}, {"netns", sandbox.namespaces.network},
                         {"ipcns", sandbox.namespaces.ipc},   {"utsns", sandbox.namespaces.uts},
                         {"pidns", sandbox.namespaces.pid},   {"cniResult", sandbox.network_result},
                         {"reason", sandbox.reason}};
  if (sandbox.config.overhead) info["overhead"] = as_json(*sandbox.config.overhead);
  if (sandbox.config.resources) info["resources"] = as_json(*sandbox.config.resources);
  for (const engine::PortMapping& port : sandbox.config.port_mappings) {
    if (port.host_port == 0) continue;  // nothing is published
    info["portMappings"].push_back({{"protocol", port.protocol},
                                    {"containerPort", port.container_port},
                                    {"hostPort", port.host_port},
                                    {"hostIp", port.host_ip}});
  }
  (*response->mutable_info())["info"] = dump(info);
  return grpc::Status::OK;
}

}  // namespace fluyt::cri
