#pragma once

#include <optional>
#include <vector>

#include "network/builtin/address.h"
#include "network/builtin/lease.h"

/// What an address manager gave, as a sandbox's device is to have it.
namespace fluyt::network {

struct Way {
  Prefix destination;
  std::optional<Address> gateway;  // that it goes by
};

struct SandboxAddresses {
  Json ips;                 // of the result, with interface and gateway
  Json routes;              // of the result; null: none
  std::vector<Prefix> pod;  // in order
  std::vector<Way> ways;    // the routes; without a gateway of their own by the family's first
};

/// `interface` is the device's place in the result's interfaces.
SandboxAddresses plan_sandbox(const Given& given, int interface);
std::vector<Way> ways_of(const Json& ips, const Json& routes);

}  // namespace fluyt::network
