#include <netinet/in.h>

#include <algorithm>

#include "base/strings.h"
#include "network/builtin/plugins.h"
#include "network/builtin/result_form.h"
#include "sys/conntrack.h"
#include "sys/file.h"
#include "sys/netlink.h"

namespace fluyt::network::builtin {

namespace {

const std::vector<std::string_view> kMaps = {"hostports", "targets"};

struct Config {
  Snat snat = Snat::kWhereNeeded;
  std::vector<HostPort> ports;
};

Result<HostPort> port_of(const Json& object) {
  if (!object.is_object()) {
    return Error(Code::kInvalidArgument, cat("an object is expected, not ", shown(object)));
  }
  HostPort port;
  const std::string protocol = to_lower(FLUYT_TRY(text_of(object, "protocol", "tcp")));
  if (protocol == "udp") {
    port.protocol = IPPROTO_UDP;
  } else if (protocol == "sctp") {
    port.protocol = IPPROTO_SCTP;
  } else if (protocol != "tcp") {
    return wrong_field("protocol", protocol, "tcp, udp or sctp");
  }
  port.host = FLUYT_TRY(address_of(object, "hostIP"));
  port.host_port = static_cast<uint16_t>(FLUYT_TRY(number_of(object, "hostPort", 1, 65535, 0)));
  port.container_port =
      static_cast<uint16_t>(FLUYT_TRY(number_of(object, "containerPort", 1, 65535, 0)));
  if (port.host_port == 0) return wrong_field("hostPort", Json(), "a number from 1 to 65535");
  if (port.container_port == 0) {
    return wrong_field("containerPort", Json(), "a number from 1 to 65535");
  }
  return port;
}

Result<Config> parse(const Json& request) {
  Config config;
  if (FLUYT_TRY(flag_of(request, "masqAll"))) config.snat = Snat::kAlways;
  if (!FLUYT_TRY(flag_of(request, "snat", true))) config.snat = Snat::kNever;
  const Json runtime = request.value("runtimeConfig", Json::object());
  const Json ports = runtime.value("portMappings", Json::array());
  if (!ports.is_array()) return wrong_field("runtimeConfig.portMappings", ports, "a list");
  for (size_t i = 0; i < ports.size(); ++i) {
    config.ports.push_back(
        FLUYT_TRY_CONTEXT(port_of(ports[i]), cat("runtimeConfig.portMappings[", i, "]")));
  }
  return config;
}

// The first address of each family.
Result<std::vector<Prefix>> targets_of(const Call& call) {
  const auto previous = call.request.find("prevResult");
  if (previous == call.request.end()) {
    return Error(Code::kInvalidArgument,
                 "prevResult: missing: a plugin that gives an address is "
                 "expected before this one in the list");
  }
  std::vector<Prefix> out;
  for (Prefix& prefix : FLUYT_TRY(addresses_of(*previous, call.device))) {
    const bool have = !out.empty() && out[0].address.v4() == prefix.address.v4();
    if (out.size() < 2 && !have) out.push_back(std::move(prefix));
  }
  return out;
}

Result<Rules> rules_of(const Call& call, const Config& config, const std::vector<Prefix>& targets) {
  const std::string owner = FLUYT_TRY(owner_name(call.container_id, call.device));
  Rules rules;
  for (const Prefix& target : targets) {
    add_host_ports(target, config.ports, config.snat, owner, rules);
  }
  return rules;
}

// What comes from 127.0.0.1 may leave by the device that leads to the sandbox.
Result<> route_localnet(const Address& target) {
  sys::Netlink netlink = FLUYT_TRY(sys::Netlink::open());
  const int wanted = FLUYT_TRY(netlink.device_towards(target.family(), target.bytes));
  const auto name = FLUYT_TRY(netlink.name_of(wanted));
  return sys::write_file(sys::kCwd, cat("/proc/sys/net/ipv4/conf/", name, "/route_localnet"), "1");
}

// A client that sent to the port before there was a rule is not looked at again while it goes on
// sending: its packets would stay with the host.
Result<> forget_old_flows(const std::vector<HostPort>& ports, const Address& target) {
  for (const HostPort& port : ports) {
    if (port.protocol != IPPROTO_UDP) continue;
    FLUYT_TRY(sys::forget_flows(target.family(), IPPROTO_UDP, port.host_port));
  }
  return {};
}

}  // namespace

std::string portmap_why_not(const Json& config) {
  std::vector<std::string> out =
      unknown_keys(config, {"snat", "masqAll", "conditionsV4", "conditionsV6", "backend"});
  for (const char* key : {"conditionsV4", "conditionsV6"}) {
    const Json conditions = config.value(key, Json());
    // Conditions are words of iptables(8).
    if (!conditions.is_null() && !conditions.empty()) out.emplace_back(key);
  }
  // With this the administrator says that iptables is wanted.
  if (config.value("backend", Json("nftables")) != "nftables") out.emplace_back("backend");
  return join(out, ", ");
}

Result<Json> portmap_add(const Call& call) {
  const Config config = FLUYT_TRY(parse(call.request));
  const std::vector<Prefix> targets = FLUYT_TRY(targets_of(call));
  const Json& previous = call.request.at("prevResult");
  if (config.ports.empty()) return previous;
  const Rules rules = FLUYT_TRY(rules_of(call, config, targets));
  std::vector<Address> addresses;
  for (const Prefix& target : targets) addresses.push_back(target.address);
  FLUYT_TRY(call.firewall.add(rules, addresses));
  for (const Prefix& target : targets) {
    // Where the kernel cannot tell of them, or does not let one go, they end by themselves.
    forget_old_flows(config.ports, target.address).ignore("new flows go to the right place");
    if (target.address.v4() && config.snat != Snat::kNever) {
      FLUYT_TRY_CONTEXT(route_localnet(target.address), "route_localnet");
    }
  }
  return previous;
}

Result<> portmap_check(const Call& call) {
  const Config config = FLUYT_TRY(parse(call.request));
  if (config.ports.empty()) return {};
  const Rules rules = FLUYT_TRY(rules_of(call, config, FLUYT_TRY(targets_of(call))));
  const std::string owner = FLUYT_TRY(owner_name(call.container_id, call.device));
  const auto present = FLUYT_TRY(call.firewall.find(owner, kMaps));
  for (const Element& wanted : rules.elements) {
    if (std::find(present.begin(), present.end(), wanted) == present.end()) {
      return Error(Code::kFailedPrecondition,
                   cat("table ", kTable, ", map ", wanted.map, ": { ", wanted.key, " : ",
                       wanted.value, " } is missing"));
    }
  }
  return {};
}

Result<> portmap_status(const Call& call) {
  FLUYT_TRY(parse(call.request));
  return {};
}

Result<> portmap_remove(const Call& call) {
  const Config config = FLUYT_TRY(parse(call.request));
  if (config.ports.empty()) return {};
  return call.firewall.remove(FLUYT_TRY(owner_name(call.container_id, call.device)), kMaps);
}

}  // namespace fluyt::network::builtin
