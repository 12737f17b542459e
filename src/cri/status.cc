#include "cri/runtime_service.h"
// after api.h
#include "base/time.h"
#include "cri/info.h"
#include "engine/cgroup_parent.h"

namespace fluyt::cri {
namespace {

/// "stateDir" is the key that CRI's own tests read.
nlohmann::json config_info(const engine::Options& options, const ServerInfo& info) {
  return {{"rootDir", options.root},
          {"stateDir", options.state},
          {"listen", info.listen},
          {"configFiles", info.config_files},
          {"configLoadedAt", format_rfc3339_nano(info.config_loaded_at)},
          {"configRefused", info.config_refused},
          {"certsDir", info.certs_dir},
          {"cniConfDir", info.cni_conf_dir},
          {"cniBinDir", info.cni_bin_dirs},
          {"cgroupDriver", engine::name_of(options.cgroup_driver)},
          {"monitorProgram", options.monitor_program}};
}

}  // namespace

grpc::Status RuntimeService::Status(grpc::ServerContext* /*context*/,
                                    const api::StatusRequest* request,
                                    api::StatusResponse* response) {
  const engine::HostStatus status = engine_.status();
  auto* runtime = response->mutable_status()->add_conditions();
  runtime->set_type("RuntimeReady");
  runtime->set_status(status.runtime_ready);
  runtime->set_reason(status.runtime_reason);
  runtime->set_message(status.runtime_message);
  auto* network = response->mutable_status()->add_conditions();
  network->set_type("NetworkReady");
  network->set_status(status.network.ready);
  network->set_reason(status.network.reason);
  network->set_message(status.network.message);
  for (const engine::HandlerStatus& from : status.handlers) {
    auto* handler = response->add_runtime_handlers();
    handler->set_name(from.name);
    handler->mutable_features()->set_recursive_read_only_mounts(from.recursive_readonly_mounts);
    handler->mutable_features()->set_user_namespaces(from.user_namespaces);
  }
  response->mutable_features()->set_supplemental_groups_policy(true);
  response->mutable_features()->set_user_namespaces_host_network(status.user_namespaces);
  if (!request->verbose()) return grpc::Status::OK;
  (*response->mutable_info())["config"] = dump(config_info(engine_.options(), info_()));
  const nlohmann::json host = {{"instance", status.instance},
                               {"lacks", status.lacks},
                               {"recordsSetAside", status.set_aside}};
  (*response->mutable_info())["host"] = dump(host);
  return grpc::Status::OK;
}

}  // namespace fluyt::cri
