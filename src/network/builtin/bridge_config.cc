#include "network/builtin/bridge_config.h"

#include "base/strings.h"
#include "network/builtin/plugins.h"

namespace fluyt::network {

namespace {

constexpr int kPodInterface = 2;  // the result's interfaces: bridge, its port, the sandbox's device

Result<Json> dns_of(const Json& request) {
  const Json dns = request.value("dns", Json::object());
  if (!dns.is_object()) return wrong_field("dns", dns, "an object");
  return dns;
}

// The first gateway of the family: routes without one go by it.
std::optional<Address> first_gateway(const Json& ips, bool v4) {
  for (const Json& ip : ips) {
    auto gateway = find_address(ip.value("gateway", ""));
    if (gateway && gateway->v4() == v4) return gateway;
  }
  return std::nullopt;
}

void add_default_route(const Prefix& address, const std::string& gateway, Json& routes) {
  const std::string everything = address.address.v4() ? "0.0.0.0/0" : "::/0";
  if (routes.is_array()) {
    for (const Json& route : routes) {
      if (route.value("dst", "") == everything && !route.value("gw", "").empty()) return;
    }
  }
  routes.push_back({{"dst", everything}, {"gw", gateway}});
}

}  // namespace

Result<BridgeConfig> parse_bridge(const Json& request) {
  BridgeConfig config;
  config.bridge = FLUYT_TRY(device_of(request, "bridge", "cni0"));
  config.default_gateway = FLUYT_TRY(flag_of(request, "isDefaultGateway"));
  config.gateway = FLUYT_TRY(flag_of(request, "isGateway")) || config.default_gateway;
  config.force_address = FLUYT_TRY(flag_of(request, "forceAddress"));
  config.masquerade = FLUYT_TRY(flag_of(request, "ipMasq"));
  config.hairpin = FLUYT_TRY(flag_of(request, "hairpinMode"));
  config.promiscuous = FLUYT_TRY(flag_of(request, "promiscMode"));
  config.mtu = static_cast<uint32_t>(FLUYT_TRY(number_of(request, "mtu", 0, 65535, 0)));
  config.dns = FLUYT_TRY(dns_of(request));
  if (config.hairpin && config.promiscuous) {
    return wrong_field("hairpinMode", Json(true), "false beside promiscMode true");
  }
  const Json ipam = request.value("ipam", Json::object());
  if (!ipam.is_object()) return wrong_field("ipam", ipam, "an object");
  if (!FLUYT_TRY(text_of(ipam, "type")).empty()) {
    config.ipam = FLUYT_TRY(host_local::parse(request));
  }
  return config;
}

BridgeAddresses plan_addresses(const BridgeConfig& config, const host_local::Given& given) {
  BridgeAddresses plan{
      .ips = given.ips, .routes = given.routes, .pod = {}, .gateways = {}, .ways = {}};
  bool have_default[2] = {false, false};
  for (Json& ip : plan.ips) {
    const Prefix address = find_prefix(ip.value("address", "")).value_or(Prefix());
    ip["interface"] = kPodInterface;
    plan.pod.push_back(address);
    const std::string gateway = ip.value("gateway", "");
    if (config.default_gateway && !have_default[address.address.v4() ? 0 : 1]) {
      add_default_route(address, gateway, plan.routes);
      have_default[address.address.v4() ? 0 : 1] = true;
    }
    if (const auto parsed = find_address(gateway); config.gateway && parsed) {
      plan.gateways.push_back({*parsed, address.length});
    }
  }
  if (!plan.routes.is_array()) return plan;
  for (const Json& route : plan.routes) {
    const auto destination = find_prefix(route.value("dst", ""));
    if (!destination) continue;  // parse() has checked them
    auto gateway = find_address(route.value("gw", ""));
    if (!gateway) gateway = first_gateway(plan.ips, destination->address.v4());
    plan.ways.push_back({*destination, gateway});
  }
  return plan;
}

namespace builtin {

std::string bridge_why_not(const Json& config) {
  std::vector<std::string> out = unknown_keys(
      config, {"bridge", "isGateway", "isDefaultGateway", "forceAddress", "ipMasq", "mtu",
               "hairpinMode", "promiscMode", "ipam", "dns", "vlan", "macspoofchk", "enabledad",
               "preserveDefaultVlan", "disableContainerInterface", "portIsolation"});
  // Implemented as far as they say that nothing is to be done.
  for (const char* key : {"vlan", "macspoofchk", "enabledad", "preserveDefaultVlan",
                          "disableContainerInterface", "portIsolation"}) {
    const Json value = config.value(key, Json());
    if (!value.is_null() && value != false && value != 0) out.emplace_back(key);
  }
  const Json ipam = config.value("ipam", Json::object());
  if (ipam.is_object() && ipam.value("type", Json("")) == "host-local") {
    if (std::string why = host_local::why_not(ipam); !why.empty()) out.push_back(std::move(why));
  } else if (ipam.is_object() && !ipam.value("type", Json("")).empty() &&
             ipam.value("type", Json("")) != "") {
    out.push_back(cat("ipam.type ", shown(ipam.value("type", Json()))));
  }
  return join(out, ", ");
}

}  // namespace builtin

}  // namespace fluyt::network
