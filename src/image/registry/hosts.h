#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "base/guarded.h"
#include "base/result.h"
#include "image/registry/hosts_toml.h"
#include "image/registry/http.h"

namespace fluyt::image::registry {

/// One server to ask for a registry's content, in the order of trying. The last is the registry
/// itself, unless a hosts.toml names another server.
struct Endpoint {
  Url base;  // its path ends in /v2, or is whole by override_path
  Capabilities capabilities;
  TlsOptions tls;
  std::vector<std::pair<std::string, std::string>> headers;
  int64_t connect_ms = 0;       // 0: the client's own
  bool is_mirror = false;       // is told the registry's name: ?ns=
  bool registry_login = false;  // a mirror that is shown what is for the registry
  bool try_plain_http = false;  // a loopback registry without configuration: http when https fails
  std::string name() const { return base.host_port(); }
};

/// The folder of containerd's per-registry files: <certs_dir>/<host_port_ or host:port or
/// _default>/ with a hosts.toml, or, without one, Docker's *.crt, *.cert and *.key. Files are read
/// again when they have changed. Thread-safe.
class HostsFolder {
 public:
  /// An empty folder name means no configuration at all.
  explicit HostsFolder(std::string certs_dir) : certs_dir_(std::move(certs_dir)) {}
  /// At least one. An unreadable or wrong file is an error: falling back would reach a server that
  /// the administrator has replaced.
  Result<std::vector<Endpoint>> endpoints_for(const std::string& registry);

 private:
  struct Cached {
    int64_t mtime_ns = 0;
    int64_t size = 0;
    uint64_t inode = 0;
    HostsToml parsed;
  };
  Result<std::vector<Endpoint>> from_folder(const std::string& folder, const std::string& registry);
  Result<HostsToml> load(const std::string& file, const std::string& folder);

  std::string certs_dir_;
  Guarded<std::map<std::string, Cached>> cache_;
};

/// What `file` asks for `registry`: a pure step, for tests.
Result<std::vector<Endpoint>> plan_endpoints(const HostsToml& file, const std::string& registry);

}  // namespace fluyt::image::registry
