#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "base/result.h"

namespace fluyt::image::registry {

/// What one server of a hosts.toml may be asked for.
struct Capabilities {
  bool pull = true;
  bool resolve = true;
  bool push = true;
  bool operator==(const Capabilities&) const = default;
};

/// One server in containerd's hosts.toml form (its docs/hosts.md), and `registry_login`, which is
/// ours.
struct HostEntry {
  std::string url;  // as written; a missing scheme means https
  Capabilities capabilities;
  std::vector<std::string> ca;  // PEM files; relative ones are beside the hosts.toml
  std::string client_cert;      // PEM; the key may be in the same file
  std::string client_key;
  std::optional<bool> skip_verify;
  bool override_path = false;   // the URL's path is whole: no "/v2" is added
  bool registry_login = false;  // it is shown what is there to log in to the registry with
  std::optional<int64_t> dial_timeout_ms;
  std::vector<std::pair<std::string, std::string>> headers;
  bool operator==(const HostEntry&) const = default;
};

struct HostsToml {
  std::vector<HostEntry> hosts;     // [host."url"] tables, in the order of the file
  std::optional<HostEntry> server;  // the keys above them; url is empty when `server` is not given
  bool operator==(const HostsToml&) const = default;
};

inline constexpr size_t kMaxHostsTomlBytes = 1UL << 20U;

/// Parses the text of a hosts.toml. `file` names it in errors; `folder` is where relative files
/// are. An unknown key, a wrong type or a bad value is kInvalidArgument with file and key, since a
/// setting that is silently dropped may be a `ca` or a `skip_verify`.
Result<HostsToml> parse_hosts_toml(std::string_view text, const std::string& file,
                                   const std::string& folder);

/// Go's time.ParseDuration for what people write in dial_timeout: "500ms", "1m30s", "2.5s".
Result<int64_t> parse_go_duration_ms(std::string_view text);

}  // namespace fluyt::image::registry
