#pragma once

#include "network/builtin/builtin.h"

/// One built-in plugin a file: what builtin.cc chooses from by name.
namespace fluyt::network::builtin {

std::string bridge_why_not(const Json& config);
Result<Json> bridge_add(const Call& call);
Result<> bridge_check(const Call& call);
Result<> bridge_remove(const Call& call);
Result<> bridge_status(const Call& call);
Result<> bridge_collect(const Call& call);

std::string portmap_why_not(const Json& config);
Result<Json> portmap_add(const Call& call);
Result<> portmap_check(const Call& call);
Result<> portmap_remove(const Call& call);
Result<> portmap_status(const Call& call);

std::string ptp_why_not(const Json& config);
Result<Json> ptp_add(const Call& call);
Result<> ptp_check(const Call& call);
Result<> ptp_remove(const Call& call);
Result<> ptp_status(const Call& call);
Result<> ptp_collect(const Call& call);

std::string macvlan_why_not(const Json& config);
Result<Json> macvlan_add(const Call& call);
Result<> macvlan_check(const Call& call);
Result<> macvlan_remove(const Call& call);
Result<> macvlan_status(const Call& call);
Result<> macvlan_collect(const Call& call);

std::string ipvlan_why_not(const Json& config);
Result<Json> ipvlan_add(const Call& call);
Result<> ipvlan_check(const Call& call);
Result<> ipvlan_remove(const Call& call);
Result<> ipvlan_status(const Call& call);
Result<> ipvlan_collect(const Call& call);

std::string vlan_why_not(const Json& config);
Result<Json> vlan_add(const Call& call);
Result<> vlan_check(const Call& call);
Result<> vlan_remove(const Call& call);
Result<> vlan_status(const Call& call);
Result<> vlan_collect(const Call& call);

std::string tuning_why_not(const Json& config);
Result<Json> tuning_add(const Call& call);
Result<> tuning_check(const Call& call);
Result<> tuning_remove(const Call& call);
Result<> tuning_status(const Call& call);

std::string bandwidth_why_not(const Json& config);
Result<Json> bandwidth_add(const Call& call);
Result<> bandwidth_check(const Call& call);
Result<> bandwidth_remove(const Call& call);
Result<> bandwidth_status(const Call& call);

std::string firewall_why_not(const Json& config);
Result<Json> firewall_add(const Call& call);
Result<> firewall_check(const Call& call);
Result<> firewall_remove(const Call& call);
Result<> firewall_status(const Call& call);

std::string loopback_why_not(const Json& config);
Result<Json> loopback_add(const Call& call);
Result<> loopback_check(const Call& call);
Result<> loopback_remove(const Call& call);

}  // namespace fluyt::network::builtin
