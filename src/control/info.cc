#include <sys/utsname.h>
#include <unistd.h>

#include "base/log_levels.h"
#include "base/strings.h"
#include "control/service.h"
#include "engine/cgroup_parent.h"

namespace fluyt::control {

grpc::Status ControlService::Info(grpc::ServerContext* /*context*/,
                                  const v1::InfoRequest* /*request*/, v1::InfoResponse* response) {
  const engine::HostStatus status = engine_.status();
  const engine::Options options = engine_.options();
  response->set_version(FLUYT_VERSION);
  response->set_api_version("v1");
  response->set_instance(status.instance);
  response->set_pid(::getpid());
  response->set_root(options.root);
  response->set_state(options.state);
  response->set_logs(options.logs);
  response->set_network_ready(status.network.ready);
  response->set_network_message(status.network.message);
  response->set_monitor_program(options.monitor_program);
  const engine::Sandbox any{.cgroup_driver = options.cgroup_driver};
  response->set_default_cgroup_parent(engine::cgroup_parent_of(options, any));
  if (!status.runtime_ready) response->add_warnings(status.runtime_message);
  for (const std::string& lack : status.lacks) response->add_warnings(lack);
  for (const std::string& record : status.set_aside) {
    response->add_warnings(cat("record set aside: ", record));
  }
  const Daemon::Config config = daemon_.config();
  for (const std::string& file : config.files) response->add_config_files(file);
  response->set_config_loaded_at(config.loaded_at);
  response->set_config_refused(config.refused);
  response->set_log_level(std::string(log_level_name(daemon_.log_level())));
  utsname host{};
  if (::uname(&host) == 0) response->set_kernel(cat(host.sysname, " ", host.release));
  return grpc::Status::OK;
}

}  // namespace fluyt::control
