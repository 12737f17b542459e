#include "network/builtin/bridge_config.h"

#include "base/strings.h"
#include "network/builtin/plugins.h"
#include "network/builtin/sandbox_device.h"

namespace fluyt::network {

namespace {

constexpr int kPodInterface = 2;  // the result's interfaces: bridge, its port, the sandbox's device

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
  config.dns = FLUYT_TRY(builtin::dns_of(request));
  if (config.hairpin && config.promiscuous) {
    return wrong_field("hairpinMode", Json(true), "false beside promiscMode true");
  }
  config.ipam = FLUYT_TRY(ipam::parse(request));
  return config;
}

BridgeAddresses plan_addresses(const BridgeConfig& config, const Given& given) {
  BridgeAddresses plan{plan_sandbox(given, kPodInterface), {}};
  bool have_default[2] = {false, false};
  for (size_t i = 0; i < plan.pod.size(); ++i) {
    const Prefix& address = plan.pod[i];
    std::string gateway = plan.ips[i].value("gateway", "");
    // Who gives addresses need not say which one is the gateway's: then it is the subnet's first.
    if (gateway.empty() && config.gateway && address.length < address.address.bits()) {
      gateway = address.first().text();
      plan.ips[i]["gateway"] = gateway;
    }
    if (config.default_gateway && !have_default[address.address.v4() ? 0 : 1]) {
      add_default_route(address, gateway, plan.routes);
      have_default[address.address.v4() ? 0 : 1] = true;
    }
    if (const auto parsed = find_address(gateway); config.gateway && parsed) {
      plan.gateways.push_back({*parsed, address.length});
    }
  }
  plan.ways = ways_of(plan.ips, plan.routes);
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
  if (std::string why = ipam::why_not(config); !why.empty()) out.push_back(std::move(why));
  return join(out, ", ");
}

}  // namespace builtin

}  // namespace fluyt::network
