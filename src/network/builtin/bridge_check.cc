#include <fcntl.h>

#include <algorithm>

#include "base/strings.h"
#include "network/builtin/bridge_config.h"
#include "network/builtin/plugins.h"
#include "network/builtin/result_form.h"
#include "sys/file.h"
#include "sys/netlink.h"
#include "sys/network_thread.h"

namespace fluyt::network::builtin {

namespace {

Error differs(std::string text) { return {Code::kFailedPrecondition, std::move(text)}; }

Result<sys::LinkDetails> get_same(sys::Netlink& netlink, const Json& interface) {
  const auto name = interface.value("name", std::string());
  const auto mac = interface.value("mac", std::string());
  auto found = FLUYT_TRY(netlink.find_details(name));
  if (!found) return differs(cat("device ", quote(name, 16), " is gone"));
  if (!mac.empty() && mac_text(found->mac) != mac) {
    return differs(cat("device ", quote(name, 16), " has the MAC address ", mac_text(found->mac),
                       ", not ", quote(mac, 32)));
  }
  return std::move(*found);
}

Result<> check_addresses(sys::Netlink& pod, int index, const std::vector<Prefix>& expected) {
  const auto present = FLUYT_TRY(pod.addresses(index));
  for (const Prefix& wanted : expected) {
    const bool there = std::any_of(present.begin(), present.end(), [&](const auto& address) {
      return wanted.address.bytes == (address.local.empty() ? address.address : address.local) &&
             wanted.length == address.prefix_length;
    });
    if (!there) return differs(cat("address ", wanted.text(), " is gone"));
  }
  return {};
}

Result<> check_routes(sys::Netlink& pod, int index, const Json& routes) {
  if (!routes.is_array()) return {};
  for (const Json& route : routes) {
    const auto wanted = find_prefix(route.value("dst", ""));
    if (!wanted) continue;
    const auto gateway = find_address(route.value("gw", ""));
    const auto present = FLUYT_TRY(pod.routes(wanted->address.family()));
    const bool there = std::any_of(present.begin(), present.end(), [&](const sys::Route& found) {
      const bool same_place =
          found.prefix_length == wanted->length &&
          (found.destination.empty() || found.destination == wanted->network().bytes);
      return found.device == index && same_place && (!gateway || found.gateway == gateway->bytes);
    });
    if (!there) return differs(cat("route ", wanted->text(), " is gone"));
  }
  return {};
}

const Json* find_interface(const Json& result, size_t at) {
  const auto interfaces = result.find("interfaces");
  if (interfaces == result.end() || !interfaces->is_array() || interfaces->size() <= at) {
    return nullptr;
  }
  return &(*interfaces)[at];
}

Result<> check_host(const BridgeConfig& config, const Json& result) {
  sys::Netlink host = FLUYT_TRY(sys::Netlink::open());
  const Json* bridge = find_interface(result, 0);
  const Json* port = find_interface(result, 1);
  if (bridge == nullptr || port == nullptr) {
    return Error(Code::kInvalidArgument,
                 "prevResult.interfaces: a bridge, its port and a device are expected");
  }
  const auto master = FLUYT_TRY(get_same(host, *bridge));
  if (master.name != config.bridge || master.kind != "bridge") {
    return differs(cat("device ", quote(master.name, 16), " is not the bridge ", config.bridge));
  }
  if (master.promiscuous != config.promiscuous) {
    return differs(cat("bridge ", config.bridge, " is ",
                       config.promiscuous ? "not promiscuous" : "promiscuous"));
  }
  if (FLUYT_TRY(get_same(host, *port)).master != master.index) {
    return differs(cat("device ", port->value("name", std::string()), " is no port of bridge ",
                       config.bridge));
  }
  return {};
}

Result<> check_masquerade(const Call& call, const std::vector<Prefix>& addresses) {
  const std::string owner = FLUYT_TRY(owner_name(call.container_id, call.device));
  Rules rules;
  for (const Prefix& prefix : addresses) add_masquerade(prefix, owner, rules);
  const auto present = FLUYT_TRY(call.firewall.find(owner, {"masquerade"}));
  for (const Element& wanted : rules.elements) {
    if (std::find(present.begin(), present.end(), wanted) == present.end()) {
      return differs(cat("table ", kTable, ", map ", wanted.map, ": ", wanted.key, " is missing"));
    }
  }
  return {};
}

}  // namespace

Result<> bridge_check(const Call& call) {
  const BridgeConfig config = FLUYT_TRY(parse_bridge(call.request));
  const auto result = call.request.find("prevResult");
  if (result == call.request.end()) return Error(Code::kInvalidArgument, "prevResult: missing");
  const host_local::Owner owner{call.container_id, call.device};
  if (config.ipam) FLUYT_TRY(host_local::check(*config.ipam, owner, call.deadline));
  FLUYT_TRY(check_host(config, *result));
  const Json* interface = find_interface(*result, 2);
  if (interface == nullptr) {
    return Error(Code::kInvalidArgument, "prevResult.interfaces: three are expected");
  }
  const auto addresses = FLUYT_TRY(addresses_of(*result, call.device));
  const sys::Fd netns = FLUYT_TRY(sys::open(call.netns, O_RDONLY));
  FLUYT_TRY(sys::in_network(netns, [&]() -> Result<> {
    sys::Netlink pod = FLUYT_TRY(sys::Netlink::open());
    const auto device = FLUYT_TRY(get_same(pod, *interface));
    FLUYT_TRY(check_addresses(pod, device.index, addresses));
    return check_routes(pod, device.index, result->value("routes", Json()));
  }));
  if (config.masquerade) return check_masquerade(call, addresses);
  return {};
}

}  // namespace fluyt::network::builtin
