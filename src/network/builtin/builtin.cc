#include "network/builtin/builtin.h"

#include <array>

#include "base/strings.h"
#include "network/builtin/plugins.h"
#include "network/builtin/result_form.h"

namespace fluyt::network::builtin {

namespace {

constexpr std::string_view kFirewall = "firewall";

struct Plugin {
  std::string_view type;
  std::string (*why_not)(const Json& config);
  Result<Json> (*add)(const Call& call);
  Result<> (*check)(const Call& call);
  Result<> (*remove)(const Call& call);
  Result<> (*status)(const Call& call);
  Result<> (*collect)(const Call& call);
};

Result<> nothing(const Call& /*call*/) { return {}; }

// What lies on a device, or is about an address, is the business of who made it.
constexpr std::array<Plugin, 10> kPlugins = {{
    {"bandwidth", bandwidth_why_not, bandwidth_add, bandwidth_check, bandwidth_remove,
     bandwidth_status, nothing},
    {"bridge", bridge_why_not, bridge_add, bridge_check, bridge_remove, bridge_status,
     bridge_collect},
    {kFirewall, firewall_why_not, firewall_add, firewall_check, firewall_remove, firewall_status,
     nothing},
    {"ipvlan", ipvlan_why_not, ipvlan_add, ipvlan_check, ipvlan_remove, ipvlan_status,
     ipvlan_collect},
    {"loopback", loopback_why_not, loopback_add, loopback_check, loopback_remove, nothing, nothing},
    {"macvlan", macvlan_why_not, macvlan_add, macvlan_check, macvlan_remove, macvlan_status,
     macvlan_collect},
    {"portmap", portmap_why_not, portmap_add, portmap_check, portmap_remove, portmap_status,
     nothing},
    {"ptp", ptp_why_not, ptp_add, ptp_check, ptp_remove, ptp_status, ptp_collect},
    {"tuning", tuning_why_not, tuning_add, tuning_check, tuning_remove, tuning_status, nothing},
    {"vlan", vlan_why_not, vlan_add, vlan_check, vlan_remove, vlan_status, vlan_collect},
}};

const Plugin* find_plugin(std::string_view type) {
  for (const Plugin& plugin : kPlugins) {
    if (plugin.type == type) return &plugin;
  }
  return nullptr;
}

// No exception of the library leaves this file.
template <class Function>
auto guarded(Function function) -> decltype(function()) {
  try {
    return function();
  } catch (const Json::exception& error) {
    return Error(Code::kInvalidArgument, cat("configuration: ", quote(error.what(), 128)));
  }
}

Result<const Plugin*> get_plugin(std::string_view type) {
  const Plugin* plugin = find_plugin(type);
  if (plugin == nullptr) return Error(Code::kInternal, "no plugin of ours");
  return plugin;
}

}  // namespace

std::optional<std::string> why_not(const std::string& type, const std::string& config_json) {
  const Plugin* plugin = find_plugin(type);
  if (plugin == nullptr) return "";
  const Json config = Json::parse(config_json, nullptr, false);
  if (!config.is_object()) return "configuration: not an object";
  try {
    std::string why = plugin->why_not(config);
    if (why.empty()) return std::nullopt;
    return why;
  } catch (const Json::exception& error) {
    return cat("configuration: ", quote(error.what(), 128));
  }
}

Result<std::string> why_not_now(const std::string& type, Firewall& firewall) {
  if (type != kFirewall) return std::string();
  return firewall.find_foreign_drop();
}

Result<std::string> add(const std::string& type, const Call& call) {
  return guarded([&]() -> Result<std::string> {
    const Plugin* plugin = FLUYT_TRY(get_plugin(type));
    Json result = FLUYT_TRY(plugin->add(call));
    return in_form_of(std::move(result), call.request.at("cniVersion").get<std::string>()).dump();
  });
}

Result<> check(const std::string& type, const Call& call) {
  return guarded([&]() -> Result<> {
    const Plugin* plugin = FLUYT_TRY(get_plugin(type));
    return plugin->check(call);
  });
}

Result<> remove(const std::string& type, const Call& call) {
  return guarded([&]() -> Result<> {
    const Plugin* plugin = FLUYT_TRY(get_plugin(type));
    return plugin->remove(call);
  });
}

Result<> status(const std::string& type, const Call& call) {
  return guarded([&]() -> Result<> {
    const Plugin* plugin = FLUYT_TRY(get_plugin(type));
    return plugin->status(call);
  });
}

Result<> collect(const std::string& type, const Call& call) {
  return guarded([&]() -> Result<> {
    const Plugin* plugin = FLUYT_TRY(get_plugin(type));
    return plugin->collect(call);
  });
}

}  // namespace fluyt::network::builtin
