#pragma once

#include <optional>
#include <string>

#include "base/result.h"
#include "network/builtin/fields.h"
#include "network/builtin/host_local.h"

namespace fluyt::network {

/// A "bridge" entry, as far as it is done in this process.
struct BridgeConfig {
  std::string bridge;
  bool gateway = false;          // the bridge gets the sandboxes' gateway address
  bool default_gateway = false;  // and they a default route to it; includes `gateway`
  bool force_address = false;    // another address in its place is removed
  bool masquerade = false;
  bool hairpin = false;
  bool promiscuous = false;
  uint32_t mtu = 0;                        // 0: the kernel's
  std::optional<host_local::Config> ipam;  // nothing: no addresses, frames alone
  Json dns = Json::object();
};

/// Errors name field and value.
Result<BridgeConfig> parse_bridge(const Json& request);

/// What of an IPAM result concerns the bridge.
struct BridgeAddresses {
  Json ips;                      // of the result, with interface and gateway
  Json routes;                   // of the result; null: none
  std::vector<Prefix> pod;       // in order
  std::vector<Prefix> gateways;  // for the bridge; empty unless it is the gateway
  struct Way {
    Prefix destination;
    std::optional<Address> gateway;
  };
  std::vector<Way> ways;  // the routes with the gateway that each goes by
};
BridgeAddresses plan_addresses(const BridgeConfig& config, const host_local::Given& given);

}  // namespace fluyt::network
