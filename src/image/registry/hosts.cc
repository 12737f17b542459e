#include "image/registry/hosts.h"

#include <sys/stat.h>

#include <algorithm>

#include "base/strings.h"
#include "sys/file.h"

namespace fluyt::image::registry {

namespace {

constexpr std::string_view kDockerHub = "docker.io";
constexpr std::string_view kDockerHubServer = "registry-1.docker.io";

std::string server_of(const std::string& registry) {
  return registry == kDockerHub ? std::string(kDockerHubServer) : registry;
}

// "host:port" -> "host_port_": containerd's form for file systems that have no colons.
std::string without_colon(const std::string& registry) {
  const size_t colon = registry.rfind(':');
  if (colon == std::string::npos || registry.back() == ']') return registry;
  return cat(registry.substr(0, colon), "_", registry.substr(colon + 1), "_");
}

// The registry itself, when nothing says otherwise.
Result<Endpoint> registry_itself(const std::string& registry) {
  Endpoint out;
  out.base = FLUYT_TRY(Url::parse(cat("https://", server_of(registry), "/v2")));
  if (out.base.is_loopback()) {
    // As the peers do: nobody has a certificate for 127.0.0.1.
    out.try_plain_http = true;
    out.tls.skip_verify = true;
    out.tls.skip_only_itself = true;
  }
  return out;
}

Result<Endpoint> from_entry(const HostEntry& entry, const std::string& registry) {
  Endpoint out = FLUYT_TRY(registry_itself(registry));
  if (!entry.url.empty()) {
    out.base = FLUYT_TRY(Url::parse(entry.url));
    out.try_plain_http = false;
    out.tls.skip_verify = out.base.is_loopback();
    out.tls.skip_only_itself = true;
    std::string& path = out.base.path;
    while (path.ends_with('/')) path.pop_back();
    if (!entry.override_path && !path.ends_with("/v2")) path += "/v2";
  }
  out.capabilities = entry.capabilities;
  out.headers = entry.headers;
  out.connect_ms = entry.dial_timeout_ms.value_or(0);
  out.registry_login = entry.registry_login;
  out.tls.ca_files = entry.ca;
  out.tls.client_cert = entry.client_cert;
  out.tls.client_key = entry.client_key;
  if (!entry.ca.empty()) {  // whoever gives a CA wants it to be checked
    out.tls.skip_verify = false;
    out.try_plain_http = false;
  }
  if (entry.skip_verify.has_value()) {
    out.tls.skip_verify = *entry.skip_verify;
    out.tls.skip_only_itself = false;
  }
  out.is_mirror = out.name() != registry && out.name() != server_of(registry);
  return out;
}

// Docker's form: CA files *.crt, and one pair x.cert and x.key.
Result<HostEntry> docker_files(const std::string& folder) {
  HostEntry out;
  const auto names = FLUYT_TRY(sys::list_dir(folder));
  const auto has = [&](const std::string& name) {
    return std::find(names.begin(), names.end(), name) != names.end();
  };
  for (const std::string& name : names) {
    const std::string path = cat(folder, "/", name);
    const std::string stem = name.substr(0, name.rfind('.'));
    if (name.ends_with(".crt")) out.ca.push_back(path);
    if (name.ends_with(".key") && !has(stem + ".cert")) {
      return Error(Code::kInvalidArgument, cat(path, ": expected ", stem, ".cert beside it"));
    }
    if (!name.ends_with(".cert")) continue;
    if (!has(stem + ".key")) {
      return Error(Code::kInvalidArgument, cat(path, ": expected ", stem, ".key beside it"));
    }
    if (!out.client_cert.empty()) {
      return Error(Code::kInvalidArgument, cat(path, ": expected one client certificate"));
    }
    out.client_cert = path;
    out.client_key = cat(folder, "/", stem, ".key");
  }
  return out;
}

}  // namespace

Result<std::vector<Endpoint>> plan_endpoints(const HostsToml& file, const std::string& registry) {
  std::vector<Endpoint> out;
  for (const HostEntry& entry : file.hosts) {
    out.push_back(FLUYT_TRY(from_entry(entry, registry)));
  }
  if (file.server.has_value()) {
    out.push_back(FLUYT_TRY(from_entry(*file.server, registry)));
  } else {
    out.push_back(FLUYT_TRY(registry_itself(registry)));
  }
  return out;
}

Result<HostsToml> HostsFolder::load(const std::string& file, const std::string& folder) {
  const sys::Fd fd = FLUYT_TRY(sys::open(file, O_RDONLY));
  const struct stat info = FLUYT_TRY(sys::stat_of(fd));
  const int64_t mtime_ns = info.st_mtim.tv_sec * 1'000'000'000 + info.st_mtim.tv_nsec;
  {
    auto cache = cache_.lock();
    const auto found = cache->find(file);
    if (found != cache->end() && found->second.mtime_ns == mtime_ns &&
        found->second.size == info.st_size && found->second.inode == info.st_ino) {
      return found->second.parsed;
    }
  }
  const std::string text = FLUYT_TRY_CONTEXT(sys::read_all(fd, kMaxHostsTomlBytes), file);
  HostsToml parsed = FLUYT_TRY(parse_hosts_toml(text, file, folder));
  (*cache_.lock())[file] = Cached{mtime_ns, info.st_size, info.st_ino, parsed};
  return parsed;
}

Result<std::vector<Endpoint>> HostsFolder::from_folder(const std::string& folder,
                                                       const std::string& registry) {
  const std::string file = cat(folder, "/hosts.toml");
  // One without a byte stands for none, as people make it beside Docker's files.
  const auto info = FLUYT_TRY(sys::find_stat(sys::kCwd, file));
  const bool is_given = info.has_value() && (S_ISLNK(info->st_mode) || info->st_size > 0);
  if (is_given) return plan_endpoints(FLUYT_TRY(load(file, folder)), registry);
  HostsToml made;
  HostEntry entry = FLUYT_TRY(docker_files(folder));
  if (entry != HostEntry{}) made.server = std::move(entry);
  return plan_endpoints(made, registry);
}

Result<std::vector<Endpoint>> HostsFolder::endpoints_for(const std::string& registry) {
  // A reference has been parsed before it comes here; this is the last guard before a path.
  if (registry.empty() || registry.front() == '.' || registry.find('/') != std::string::npos) {
    return Error(Code::kInvalidArgument,
                 cat("registry ", quote(registry), ": expected host[:port]"));
  }
  if (!certs_dir_.empty()) {
    for (const std::string& name : {without_colon(registry), registry, std::string("_default")}) {
      const std::string folder = cat(certs_dir_, "/", name);
      if (sys::exists(folder)) return from_folder(folder, registry);
    }
  }
  return plan_endpoints(HostsToml{}, registry);
}

}  // namespace fluyt::image::registry
