#include "cmd/fluyt/text/run_values.h"

#include <algorithm>
#include <vector>

#include "base/strings.h"

namespace fluyt::cli {

namespace {

Error bad(std::string text) { return {Code::kInvalidArgument, std::move(text)}; }

bool is_alnum(char c) {
  return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z');
}

std::string normal_path(std::string_view path) {
  std::vector<std::string> parts;
  for (const std::string_view part : split(path, '/')) {
    if (part.empty() || part == ".") continue;
    if (part != "..") {
      parts.emplace_back(part);
    } else if (!parts.empty()) {
      parts.pop_back();
    }
  }
  return "/" + join(parts, "/");
}

std::optional<PortProtocol> protocol_of(std::string_view name) {
  if (name == "tcp") return PortProtocol::kTcp;
  if (name == "udp") return PortProtocol::kUdp;
  if (name == "sctp") return PortProtocol::kSctp;
  return std::nullopt;
}

// The address in front of "host:container", and the rest.
std::pair<std::string_view, std::string_view> split_address(std::string_view text) {
  if (text.starts_with('[')) {
    const size_t end = text.find("]:");
    if (end == std::string_view::npos) return {"", text};
    return {text.substr(1, end - 1), text.substr(end + 2)};
  }
  if (std::count(text.begin(), text.end(), ':') != 2) return {"", text};
  const size_t colon = text.find(':');
  return {text.substr(0, colon), text.substr(colon + 1)};
}

}  // namespace

Result<std::optional<std::pair<std::string, std::string>>> parse_env(std::string_view text,
                                                                     Lookup lookup) {
  const size_t equals = text.find('=');
  std::string name(text.substr(0, equals));
  if (name.empty()) return bad(cat(quote(text, 128), " is not KEY=VALUE"));
  if (equals != std::string_view::npos) {
    return std::optional(std::pair(std::move(name), std::string(text.substr(equals + 1))));
  }
  const char* value = lookup(name.c_str());
  if (value == nullptr) return std::optional<std::pair<std::string, std::string>>();
  return std::optional(std::pair(std::move(name), std::string(value)));
}

Result<std::pair<std::string, std::string>> parse_label(std::string_view text) {
  const size_t equals = text.find('=');
  std::string key(text.substr(0, equals));
  if (key.empty()) return bad(cat(quote(text, 128), " is not KEY=VALUE"));
  return std::pair(std::move(key),
                   std::string(equals == std::string_view::npos ? "" : text.substr(equals + 1)));
}

Result<Volume> parse_volume(std::string_view text, std::string_view cwd) {
  const auto parts = split(text, ':');
  Volume volume;
  if (parts.size() < 2 || parts.size() > 3 || parts[0].empty()) {
    return bad(cat(quote(text, 256), " is not HOST:CONTAINER[:ro]"));
  }
  if (parts.size() == 3) {
    if (parts[2] != "ro" && parts[2] != "rw") {
      return bad(cat(quote(parts[2], 64), " is not ro or rw, in ", quote(text, 256)));
    }
    volume.readonly = parts[2] == "ro";
  }
  if (!parts[1].starts_with('/')) {
    return bad(cat("the path in the container must be absolute, not ", quote(parts[1], 256)));
  }
  // Docker takes a bare word for a volume's name, which does not exist here; a mistake must not
  // make a folder out of it.
  if (parts[0][0] != '/' && parts[0][0] != '.') {
    return bad(cat(quote(parts[0], 256),
                   " must be a path that starts with '/' or '.': there are no named volumes"));
  }
  volume.host_path =
      normal_path(parts[0][0] == '/' ? std::string(parts[0]) : cat(cwd, "/", parts[0]));
  volume.container_path = normal_path(parts[1]);
  return volume;
}

Result<Port> parse_port(std::string_view text) {
  const std::string_view whole = text;
  Port port;
  if (const size_t slash = text.find('/'); slash != std::string_view::npos) {
    const auto protocol = protocol_of(text.substr(slash + 1));
    if (!protocol) return bad(cat(quote(whole, 64), ": the protocol is not tcp, udp or sctp"));
    port.protocol = *protocol;
    text = text.substr(0, slash);
  }
  const auto [address, ports] = split_address(text);
  port.host_ip = address;
  const auto parts = split(ports, ':');
  const auto host = parse_number<uint16_t>(parts[0]);
  const auto container = parts.size() == 2 ? parse_number<uint16_t>(parts[1]) : std::nullopt;
  if (!host || !container || *host == 0 || *container == 0) {
    return bad(cat(quote(whole, 64), " is not [IP:]HOSTPORT:CONTAINERPORT[/tcp]"));
  }
  port.host_port = *host;
  port.container_port = *container;
  return port;
}

Result<User> parse_user(std::string_view text) {
  const auto parts = split(text, ':');
  User user;
  user.uid = parse_number<uint32_t>(parts[0]);
  if (parts.size() > 2 || parts[0].empty())
    return bad(cat(quote(text, 64), " is not UID[:GID] or a name"));
  if (!user.uid) {
    if (parts.size() == 2) {
      return bad(cat(quote(text, 64), ": a group can be given with a numeric user only"));
    }
    user.name = parts[0];
    return user;
  }
  if (parts.size() == 2) {
    user.gid = parse_number<uint32_t>(parts[1]);
    if (!user.gid)
      return bad(cat(quote(parts[1], 64), " is not a numeric group, in ", quote(text, 64)));
  }
  return user;
}

Result<std::string> parse_capability(std::string_view text) {
  std::string name;
  for (const char c : text) name += c >= 'a' && c <= 'z' ? static_cast<char>(c - 'a' + 'A') : c;
  if (name.starts_with("CAP_")) name.erase(0, 4);
  const bool good = !name.empty() && std::all_of(name.begin(), name.end(), [](char c) {
    return (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '_';
  });
  if (!good) return bad(cat(quote(text, 64), " is not a capability such as NET_ADMIN"));
  return name;
}

Result<> check_name(std::string_view name) {
  const bool good = !name.empty() && name.size() <= 128 && is_alnum(name[0]) &&
                    std::all_of(name.begin(), name.end(), [](char c) {
                      return is_alnum(c) || c == '_' || c == '.' || c == '-';
                    });
  if (good) return {};
  return bad(
      cat(quote(name, 64),
          " is not a letter or digit followed by letters, digits, '_', '.' and '-' (at most 128)"));
}

}  // namespace fluyt::cli
