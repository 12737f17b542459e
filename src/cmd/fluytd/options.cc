#include "options.h"

#include <cstdlib>

namespace fluyt::daemon {
namespace {

Result<image::CredentialTable> credential_table(const Settings& settings) {
  image::CredentialTable table;
  for (const auto& [match, entry] : settings.credentials) {
    FLUYT_TRY_CONTEXT(table.add(match, entry), "image.credentials");
  }
  return table;
}

}  // namespace

engine::Options engine_options(const Settings& settings) {
  return {.root = settings.root + "/engine",
          .state = settings.state,
          .logs = settings.root + "/logs",
          .monitor_program = settings.monitor_program,
          .pod_init_program = settings.pod_init_program,
          .cgroup_driver = settings.cgroup_driver,
          .default_cgroup_parent = settings.cgroup_parent,
          .cdi_dirs = settings.cdi_dirs,
          .monitor_cgroup_parent = settings.monitor_cgroup_parent,
          .handlers = settings.handlers,
          .default_handler = settings.default_handler,
          .selinux = settings.selinux};
}

network::Options network_options(const Settings& settings) {
  return {.conf_dir = settings.cni_conf_dir,
          .bin_dirs = settings.cni_bin_dirs,
          .cache_dir = settings.root + "/cni",
          .plugins = settings.network_builtin ? network::Plugins::kBuiltIn
                                              : network::Plugins::kProgramsOnly};
}

Result<image::StoreOptions> store_options(const Settings& settings) {
  auto proxies =
      FLUYT_TRY(image::registry::proxy_settings_from([](const char* name) -> std::string {
        const char* value = std::getenv(name);
        return value == nullptr ? "" : value;
      }));
  image::StoreOptions options;
  options.root = settings.root + "/image";
  options.state = settings.state;
  options.certs_dir = settings.certs_dir;
  options.unpack_program = settings.unpack_program;
  options.parallel_fetches = settings.parallel_fetches;
  options.max_fetches = settings.max_fetches;
  options.layer_form = settings.layer_form;
  options.root_driver = settings.root_driver;
  options.keep_blobs = settings.keep_blobs;
  options.credentials = FLUYT_TRY(credential_table(settings));
  options.auth_file = settings.auth_file;
  options.proxies = std::move(proxies);
  options.verify = settings.verify;
  return options;
}

Result<image::StoreChange> store_change(const Settings& settings) {
  image::StoreChange change;
  change.certs_dir = settings.certs_dir;
  change.credentials = FLUYT_TRY(credential_table(settings));
  change.auth_file = settings.auth_file;
  change.verify = settings.verify;
  change.keep_blobs = settings.keep_blobs;
  change.layer_form = settings.layer_form;
  change.root_driver = settings.root_driver;
  change.unpack_program = settings.unpack_program;
  change.parallel_fetches = settings.parallel_fetches;
  change.max_fetches = settings.max_fetches;
  change.pinned = settings.pinned_images;
  return change;
}

}  // namespace fluyt::daemon
