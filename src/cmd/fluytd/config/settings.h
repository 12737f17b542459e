#pragma once

#include <map>
#include <optional>
#include <string>
#include <vector>

#include "cmd/fluytd/log/options.h"
#include "cmd/fluytd/tracing/options.h"
#include "engine/config.h"
#include "engine/runtime_handler.h"
#include "image/auth/credentials.h"
#include "image/image_store.h"
#include "streaming/server.h"

namespace fluyt::daemon {

/// What fluytd is told. Each member is one key (keys.cc), with its default here.
struct Settings {
  std::string root = "/var/lib/fluyt";
  std::string state = "/run/fluyt";
  std::string listen = "unix:/run/fluyt/fluyt.sock";
  std::string certs_dir = "/etc/fluyt/certs.d";
  std::string cni_conf_dir = "/etc/cni/net.d";
  std::vector<std::string> cni_bin_dirs = {"/opt/cni/bin", "/usr/lib/cni"};
  bool network_builtin = true;  // common CNI plugins in this process
  std::vector<std::string> cdi_dirs = {"/etc/cdi", "/var/run/cdi"};  // the later wins
  bool selinux = false;  // labels, where the host has SELinux
  LogOptions log;
  std::string metrics_listen;  // empty: nowhere
  TracingOptions tracing;
  engine::CgroupDriver cgroup_driver = engine::CgroupDriver::kCgroupfs;
  std::string cgroup_parent;          // empty: the driver's default
  std::string monitor_cgroup_parent;  // the same
  size_t parallel_fetches = 3;
  size_t max_fetches = 8;
  image::KeepBlobs keep_blobs = image::KeepBlobs::kPushable;
  std::optional<image::LayerForm> layer_form = image::LayerForm::kDirectory;  // none: "auto"
  image::RootDriver root_driver = image::RootDriver::kOverlay;
  /// For registries, where a caller brings none: by where they are for (CredentialTable's keys).
  std::map<std::string, image::Credentials> credentials;
  std::string auth_file;  // the same as a file in Docker's form
  image::policy::VerifyOptions verify;
  std::vector<std::string> pinned_images;
  streaming::Options streaming;
  /// Helper programs; empty: beside our own executable, else in /usr/libexec/fluyt.
  std::string monitor_program;
  std::string pod_init_program;
  std::string unpack_program;
  std::vector<engine::RuntimeHandler> handlers;  // besides the linked one
  std::string default_handler = std::string(engine::kLinkedHandler);
};

}  // namespace fluyt::daemon
