#pragma once

#include <string>
#include <utility>
#include <vector>

#include "network/builtin/builtin.h"
#include "network/builtin/ipam.h"
#include "sys/netlink.h"

/// What macvlan, ipvlan and vlan have in common: the sandbox's device lies on one of the host's.
namespace fluyt::network::builtin {

struct ChildConfig {
  std::string kind;     // as the kernel calls it
  std::string master;   // the host's device; empty: the one with the default route
  uint32_t mtu = 0;     // 0: the master's
  uint32_t number = 0;  // mode, or VLAN
  std::string mac;      // bytes; empty: the kernel's
  ipam::Config ipam;    // none: the device is up and no more
  Json dns;
  std::vector<std::pair<std::string, std::string>> sysctls;  // below /proc/sys/net, DEVICE in them
};

/// master, mtu, ipam and dns.
Result<ChildConfig> parse_child(const Json& request, std::string kind);
std::string child_why_not(const Json& config, std::vector<std::string_view> known);

Result<Json> child_add(const Call& call, const ChildConfig& config);
Result<> child_check(const Call& call, const ChildConfig& config);
Result<> child_remove(const Call& call, const ChildConfig& config);
/// The master is there.
Result<> child_status(const ChildConfig& config);
Result<> child_collect(const Call& call, const ChildConfig& config);

}  // namespace fluyt::network::builtin
