#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <utility>

#include "base/result.h"

/// The values of `fluyt run`'s options, as people write them. Errors name the value and the form.
namespace fluyt::cli {

/// "KEY=VALUE"; "KEY" alone takes the value from `lookup` and is nothing when that has none.
using Lookup = const char* (*)(const char* name);
Result<std::optional<std::pair<std::string, std::string>>> parse_env(std::string_view text,
                                                                     Lookup lookup);
/// "KEY=VALUE" or "KEY".
Result<std::pair<std::string, std::string>> parse_label(std::string_view text);

struct Volume {
  std::string host_path;  // absolute, without "." and ".."
  std::string container_path;
  bool readonly = false;
  bool operator==(const Volume&) const = default;
};
/// "/host:/container[:ro|rw]"; a relative host path starts at `cwd`.
Result<Volume> parse_volume(std::string_view text, std::string_view cwd);

enum class PortProtocol { kTcp, kUdp, kSctp };
struct Port {
  std::string host_ip;
  uint16_t host_port = 0;
  uint16_t container_port = 0;
  PortProtocol protocol = PortProtocol::kTcp;
  bool operator==(const Port&) const = default;
};
/// "[ip:]host:container[/tcp|udp|sctp]"; an IPv6 address stands in brackets.
Result<Port> parse_port(std::string_view text);

struct User {
  std::optional<int64_t> uid;
  std::optional<int64_t> gid;
  std::string name;  // in place of uid
  bool operator==(const User&) const = default;
};
/// "uid[:gid]" or a name that the image knows.
Result<User> parse_user(std::string_view text);

/// CAP_NET_ADMIN, net_admin and "all" as CRI wants them: NET_ADMIN, ALL.
Result<std::string> parse_capability(std::string_view text);

/// A name that a person may give: a letter or digit, then letters, digits and "_.-", at most 128.
Result<> check_name(std::string_view name);

}  // namespace fluyt::cli
