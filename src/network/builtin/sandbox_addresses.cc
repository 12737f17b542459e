#include "network/builtin/sandbox_addresses.h"

namespace fluyt::network {

namespace {

std::optional<Address> first_gateway(const Json& ips, bool v4) {
  for (const Json& ip : ips) {
    auto gateway = find_address(ip.value("gateway", ""));
    if (gateway && gateway->v4() == v4) return gateway;
  }
  return std::nullopt;
}

}  // namespace

std::vector<Way> ways_of(const Json& ips, const Json& routes) {
  std::vector<Way> out;
  if (!routes.is_array()) return out;
  for (const Json& route : routes) {
    const auto destination = find_prefix(route.value("dst", ""));
    if (!destination) continue;  // they have been checked
    auto gateway = find_address(route.value("gw", ""));
    if (!gateway) gateway = first_gateway(ips, destination->address.v4());
    out.push_back({*destination, gateway});
  }
  return out;
}

SandboxAddresses plan_sandbox(const Given& given, int interface) {
  SandboxAddresses plan{.ips = given.ips, .routes = given.routes, .pod = {}, .ways = {}};
  for (Json& ip : plan.ips) {
    ip["interface"] = interface;
    plan.pod.push_back(find_prefix(ip.value("address", "")).value_or(Prefix()));
  }
  plan.ways = ways_of(plan.ips, plan.routes);
  return plan;
}

}  // namespace fluyt::network
