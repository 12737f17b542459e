#include "network/request.h"

#include <algorithm>
#include <nlohmann/json.hpp>

#include "base/strings.h"

namespace fluyt::network {

namespace {

using Json = nlohmann::json;

Error bad(std::string text) { return {Code::kInvalidArgument, std::move(text)}; }

bool is_plugin_id(std::string_view id) {
  auto alnum = [](char c) {
    return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z');
  };
  return !id.empty() && id.size() <= 1024 && alnum(id[0]) &&
         std::all_of(id.begin(), id.end(),
                     [&](char c) { return alnum(c) || c == '_' || c == '.' || c == '-'; });
}

// CNI_ARGS is "KEY=VALUE;KEY=VALUE" and nothing can be escaped in it: a value with a separator
// would become a key of its own to the plugin.
Result<> append_arg(std::string& out, std::string_view key, std::string_view value) {
  if (value.empty()) return {};
  if (value.find_first_of(";=") != std::string_view::npos || has_control_characters(value)) {
    return bad(cat(key, ": ", quote(value, 128), " must not have ';', '=' or control characters"));
  }
  out += cat(';', key, '=', value);
  return {};
}

Json port_mappings_of(const std::vector<PortMapping>& mappings) {
  Json list = Json::array();
  for (const PortMapping& mapping : mappings) {
    if (mapping.host_port == 0) continue;
    Json item = {{"hostPort", mapping.host_port},
                 {"containerPort", mapping.container_port},
                 {"protocol", mapping.protocol.empty() ? "tcp" : to_lower(mapping.protocol)}};
    if (!mapping.host_ip.empty()) item["hostIP"] = mapping.host_ip;
    list.push_back(std::move(item));
  }
  return list;
}

// A bucket as large as the plugin's numbers go: who asks for a rate says nothing of bursts.
Json bandwidth_of(const Bandwidth& bandwidth) {
  constexpr uint32_t kBurst = UINT32_MAX;
  Json limits = Json::object();
  if (bandwidth.ingress != 0) {
    limits["ingressRate"] = bandwidth.ingress;
    limits["ingressBurst"] = kBurst;
  }
  if (bandwidth.egress != 0) {
    limits["egressRate"] = bandwidth.egress;
    limits["egressBurst"] = kBurst;
  }
  return limits;
}

Json capabilities_of(const SandboxNetwork& sandbox) {
  Json all = Json::object();
  if (Json ports = port_mappings_of(sandbox.port_mappings); !ports.empty()) {
    all["portMappings"] = std::move(ports);
  }
  Json dns = Json::object();
  if (!sandbox.dns.servers.empty()) dns["servers"] = sandbox.dns.servers;
  if (!sandbox.dns.searches.empty()) dns["searches"] = sandbox.dns.searches;
  if (!sandbox.dns.options.empty()) dns["options"] = sandbox.dns.options;
  if (!dns.empty()) all["dns"] = std::move(dns);
  if (!sandbox.cgroup_parent.empty()) all["cgroupPath"] = sandbox.cgroup_parent;
  if (Json limits = bandwidth_of(sandbox.bandwidth); !limits.empty()) {
    all["bandwidth"] = std::move(limits);
  }
  return all;
}

Result<> check_ports(const std::vector<PortMapping>& mappings) {
  for (size_t i = 0; i < mappings.size(); ++i) {
    const PortMapping& mapping = mappings[i];
    if (mapping.host_port == 0) continue;
    const std::string protocol = to_lower(mapping.protocol);
    if (!protocol.empty() && protocol != "tcp" && protocol != "udp" && protocol != "sctp") {
      return bad(cat("port_mappings[", i, "].protocol: ", quote(mapping.protocol, 32),
                     " is not tcp, udp or sctp"));
    }
    if (mapping.container_port == 0) {
      return bad(cat("port_mappings[", i, "].container_port: 1 to 65535 is expected, not 0"));
    }
  }
  return {};
}

// dump() throws on text that is not UTF-8, and names of pods come from outside.
Result<std::string> dump(const Json& json) {
  try {
    return json.dump();
  } catch (const Json::exception&) {
    return bad("not UTF-8");
  }
}

// The entry as a plugin gets it, with what it has the capability for of `have`.
Result<Json> base_request(const NetworkConfig& network, const PluginConfig& plugin,
                          const Json& have) {
  Json request = Json::parse(plugin.json, nullptr, false);
  if (!request.is_object() || !have.is_object()) {
    return Error(Code::kDataLoss,
                 cat("plugin ", quote(plugin.type, 64), ": configuration is not JSON"));
  }
  Json runtime_config = Json::object();
  if (const auto wants = request.find("capabilities");
      wants != request.end() && wants->is_object()) {
    for (const auto& [key, on] : wants->items()) {
      if (on.is_boolean() && on.get<bool>() && have.contains(key)) runtime_config[key] = have[key];
    }
  }
  request.erase("capabilities");
  request.erase("cniVersions");
  if (!runtime_config.empty()) request["runtimeConfig"] = std::move(runtime_config);
  request["cniVersion"] = network.version;
  request["name"] = network.name;
  return request;
}

}  // namespace

std::string_view command_name(Command command) {
  switch (command) {
    case Command::kAdd:
      return "ADD";
    case Command::kCheck:
      return "CHECK";
    case Command::kDel:
      return "DEL";
    case Command::kStatus:
      return "STATUS";
    case Command::kGc:
      return "GC";
  }
  return "";
}

Result<AttachmentArgs> make_args(const SandboxNetwork& sandbox) {
  if (!is_plugin_id(sandbox.sandbox_id)) {
    return bad(cat("sandbox_id: ", quote(sandbox.sandbox_id, 128),
                   " is not a letter or digit followed by letters, digits, '_', '.' and '-'"));
  }
  FLUYT_TRY(check_ports(sandbox.port_mappings));
  AttachmentArgs args{.container_id = sandbox.sandbox_id, .netns = sandbox.netns_path};
  // IgnoreUnknown, or plugins that know no Kubernetes refuse the other keys.
  args.cni_args = "IgnoreUnknown=1";
  FLUYT_TRY(append_arg(args.cni_args, "K8S_POD_NAMESPACE", sandbox.pod_namespace));
  FLUYT_TRY(append_arg(args.cni_args, "K8S_POD_NAME", sandbox.pod_name));
  FLUYT_TRY(append_arg(args.cni_args, "K8S_POD_INFRA_CONTAINER_ID", sandbox.sandbox_id));
  FLUYT_TRY(append_arg(args.cni_args, "K8S_POD_UID", sandbox.pod_uid));
  args.capabilities_json =
      FLUYT_TRY_CONTEXT(dump(capabilities_of(sandbox)), "port mappings, dns or cgroup_parent");
  return args;
}

Result<> check_ports_are_served(const NetworkConfig& network,
                                const std::vector<PortMapping>& mappings) {
  const bool served =
      std::any_of(network.plugins.begin(), network.plugins.end(), [](const PluginConfig& plugin) {
        const Json config = Json::parse(plugin.json, nullptr, false);
        const auto wants = config.is_object() ? config.find("capabilities") : config.end();
        return wants != config.end() && wants->is_object() &&
               wants->value("portMappings", Json()) == true;
      });
  if (served) return {};
  for (size_t i = 0; i < mappings.size(); ++i) {
    if (mappings[i].host_port == 0) continue;
    return Error(
        Code::kFailedPrecondition,
        cat("port_mappings[", i, "].host_port: ", mappings[i].host_port, ": no plugin of network ",
            quote(network.name), " (", network.source, ") has the capability portMappings"));
  }
  return {};
}

std::vector<std::string> make_environment(Command command, const AttachmentArgs& args,
                                          const std::vector<std::string>& bin_dirs) {
  std::vector<std::string> out = {
      cat("CNI_COMMAND=", command_name(command)),
      cat("CNI_PATH=", join(bin_dirs, ":")),
      // Plugins start iptables, ip and the like by name.
      "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
  };
  if (command == Command::kStatus || command == Command::kGc) return out;
  out.push_back(cat("CNI_CONTAINERID=", args.container_id));
  out.push_back(cat("CNI_NETNS=", args.netns));
  out.push_back(cat("CNI_IFNAME=", args.interface));
  out.push_back(cat("CNI_ARGS=", args.cni_args));
  return out;
}

Result<std::string> make_request(const NetworkConfig& network, const PluginConfig& plugin,
                                 const AttachmentArgs& args, std::string_view previous_result) {
  const Json have = Json::parse(args.capabilities_json, nullptr, false);
  Json request = FLUYT_TRY(base_request(network, plugin, have));
  if (!previous_result.empty()) {
    Json previous = Json::parse(previous_result, nullptr, false);
    if (!previous.is_object()) {
      return Error(Code::kDataLoss,
                   cat("plugin ", quote(plugin.type, 64), ": prevResult is not JSON"));
    }
    request["prevResult"] = std::move(previous);
  }
  return dump(request);
}

Result<std::string> make_status_request(const NetworkConfig& network, const PluginConfig& plugin) {
  return dump(FLUYT_TRY(base_request(network, plugin, Json::object())));
}

Result<std::string> make_gc_request(const NetworkConfig& network, const PluginConfig& plugin,
                                    const std::vector<AttachmentName>& valid) {
  Json request = FLUYT_TRY(base_request(network, plugin, Json::object()));
  Json list = Json::array();
  for (const AttachmentName& name : valid) {
    list.push_back({{"containerID", name.container_id}, {"ifname", name.interface}});
  }
  // The second is what early texts of the specification called it.
  request["cni.dev/valid-attachments"] = list;
  request["cni.dev/attachments"] = std::move(list);
  return dump(request);
}

}  // namespace fluyt::network
