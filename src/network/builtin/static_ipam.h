#pragma once

#include <string>

#include "base/result.h"
#include "network/builtin/address.h"
#include "network/builtin/lease.h"

/// Addresses that the configuration names: what the program `static` answers.
namespace fluyt::network::static_ipam {

struct Config {
  Given given;
};

/// As of host_local.h.
std::string why_not(const Json& ipam);
Result<Config> parse(const Json& request);
bool holds(const Config& config, const Address& address);

}  // namespace fluyt::network::static_ipam
