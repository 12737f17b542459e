#pragma once

#include <string>

#include "base/result.h"
#include "network/builtin/fields.h"
#include "network/builtin/ipam.h"
#include "network/builtin/sandbox_addresses.h"

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
  uint32_t mtu = 0;   // 0: the kernel's
  ipam::Config ipam;  // none: no addresses, frames alone
  Json dns = Json::object();
};

/// Errors name field and value.
Result<BridgeConfig> parse_bridge(const Json& request);

/// What of an IPAM result concerns the bridge.
struct BridgeAddresses : SandboxAddresses {
  std::vector<Prefix> gateways;  // for the bridge; empty unless it is the gateway
};
BridgeAddresses plan_addresses(const BridgeConfig& config, const Given& given);

}  // namespace fluyt::network
