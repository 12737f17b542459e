#include <fcntl.h>
#include <linux/rtnetlink.h>

#include "base/strings.h"
#include "network/builtin/device_check.h"
#include "network/builtin/ipam.h"
#include "network/builtin/plugins.h"
#include "network/builtin/result_form.h"
#include "network/builtin/sandbox_device.h"
#include "sys/file.h"

/// A veth with the host at its other end: nothing between sandboxes but this host's routes.
namespace fluyt::network::builtin {

namespace {

constexpr int kPodInterface = 1;  // the result's interfaces: the host's end, the sandbox's

struct Config {
  bool masquerade = false;
  uint32_t mtu = 0;
  ipam::Config ipam;
  Json dns;
};

Result<Config> parse(const Json& request) {
  Config config;
  config.masquerade = FLUYT_TRY(flag_of(request, "ipMasq"));
  config.mtu = static_cast<uint32_t>(FLUYT_TRY(number_of(request, "mtu", 0, 65535, 0)));
  config.ipam = FLUYT_TRY(ipam::parse(request));
  config.dns = FLUYT_TRY(dns_of(request));
  if (ipam::is_none(config.ipam)) {
    return wrong_field("ipam", request.value("ipam", Json()), "who gives addresses");
  }
  return config;
}

// Of every address the one for the host's end.
Result<std::vector<Address>> gateways_of(const SandboxAddresses& addresses) {
  if (addresses.pod.empty()) return Error(Code::kFailedPrecondition, "ipam: it gave no address");
  std::vector<Address> out;
  for (const Json& ip : addresses.ips) {
    auto gateway = find_address(ip.value("gateway", ""));
    if (!gateway) return wrong_field("ipam: gateway", ip, "an address beside each one given");
    out.push_back(std::move(*gateway));
  }
  return out;
}

sys::Route host_route(const Address& to, int device) {
  return {.family = to.family(),
          .destination = to.bytes,
          .prefix_length = static_cast<uint8_t>(to.bits()),
          .gateway = {},
          .device = device,
          .source = {},
          .scope = {}};
}

// The subnet is not behind this device: all of it is reached through the host.
Result<> route_by_host(sys::Netlink& pod, int device, const Prefix& address,
                       const Address& gateway) {
  sys::Route subnet{.family = address.address.family(),
                    .destination = address.network().bytes,
                    .prefix_length = static_cast<uint8_t>(address.length),
                    .gateway = {},
                    .device = device,
                    .source = {},
                    .scope = {}};
  auto deleted = pod.delete_route(subnet);
  if (!deleted.ok() && deleted.error().code() != Code::kNotFound) return deleted;
  sys::Route to_host = host_route(gateway, device);
  to_host.source = address.address.bytes;
  to_host.scope = RT_SCOPE_LINK;
  FLUYT_TRY_CONTEXT(pod.add_route(to_host), cat("route ", gateway.text()));
  subnet.gateway = gateway.bytes;
  subnet.source = address.address.bytes;
  FLUYT_TRY_CONTEXT(pod.add_route(subnet), cat("route ", address.text()));
  return {};
}

Result<> set_up_host(sys::Netlink& host, int device, const SandboxAddresses& addresses,
                     const std::vector<Address>& gateways) {
  for (size_t i = 0; i < gateways.size(); ++i) {
    const Prefix own{gateways[i], gateways[i].bits()};
    auto added = host.add_address(device, link_address(own));
    if (!added.ok() && added.error().code() != Code::kAlreadyExists) {
      return std::move(added).error().add_context(own.text());
    }
    sys::Route route = host_route(addresses.pod[i].address, device);
    route.scope = RT_SCOPE_HOST;
    added = host.add_route(route);
    if (!added.ok() && added.error().code() != Code::kAlreadyExists) {
      return std::move(added).error().add_context(cat("route ", addresses.pod[i].address.text()));
    }
  }
  return {};
}

}  // namespace

std::string ptp_why_not(const Json& config) {
  std::vector<std::string> out = unknown_keys(config, {"ipMasq", "mtu", "ipam", "dns"});
  if (std::string why = ipam::why_not(config); !why.empty()) out.push_back(std::move(why));
  return join(out, ", ");
}

Result<Json> ptp_add(const Call& call) {
  const Config config = FLUYT_TRY(parse(call.request));
  const Given given =
      FLUYT_TRY(ipam::add(config.ipam, {call.container_id, call.device}, call.deadline));
  const SandboxAddresses addresses = plan_sandbox(given, kPodInterface);
  const auto gateways = FLUYT_TRY(gateways_of(addresses));
  for (const Prefix& prefix : addresses.pod) FLUYT_TRY(enable_forwarding(prefix.address));

  sys::Netlink host = FLUYT_TRY(sys::Netlink::open());
  const sys::Fd netns = FLUYT_TRY(sys::open(call.netns, O_RDONLY));
  const std::string name = FLUYT_TRY(random_name("veth"));
  FLUYT_TRY(host.add_veth({.name = name,
                           .peer_name = call.device,
                           .mtu = config.mtu,
                           .master = 0,
                           .peer_network = netns,
                           .peer_mac = {}}));
  write_sysctl(cat("ipv6/conf/", name, "/accept_ra"), "0").ignore("no IPv6 here");
  std::string mac;
  FLUYT_TRY(in_sandbox(call, [&](sys::Netlink& pod) -> Result<> {
    const sys::LinkDetails device = FLUYT_TRY(get_device(pod, call.device));
    mac = device.mac;
    FLUYT_TRY(configure_device(pod, device, addresses, call.deadline));
    for (size_t i = 0; i < gateways.size(); ++i) {
      FLUYT_TRY(route_by_host(pod, device.index, addresses.pod[i], gateways[i]));
    }
    return {};
  }));
  const sys::LinkDetails end = FLUYT_TRY(get_device(host, name));
  FLUYT_TRY(set_up_host(host, end.index, addresses, gateways));
  if (config.masquerade) FLUYT_TRY(masquerade(call, addresses.pod));
  Json result = {{"interfaces",
                  {{{"name", name}, {"mac", mac_text(end.mac)}},
                   {{"name", call.device}, {"mac", mac_text(mac)}, {"sandbox", call.netns}}}}};
  put_addresses(addresses, config.dns, given.dns, result);
  return result;
}

Result<> ptp_check(const Call& call) {
  const Config config = FLUYT_TRY(parse(call.request));
  const Json result = FLUYT_TRY(previous_result(call));
  FLUYT_TRY(ipam::check(config.ipam, {call.container_id, call.device}, call.deadline));
  const Json* end = find_interface(result, 0);
  if (end == nullptr) return Error(Code::kInvalidArgument, "prevResult.interfaces: none");
  sys::Netlink host = FLUYT_TRY(sys::Netlink::open());
  FLUYT_TRY(get_same(host, *end));
  FLUYT_TRY(check_device(call, result, kPodInterface));
  if (!config.masquerade) return {};
  return check_masquerade(call, FLUYT_TRY(addresses_of(result, call.device)));
}

Result<> ptp_remove(const Call& call) {
  const Config config = FLUYT_TRY(parse(call.request));
  FLUYT_TRY(remove_device(call));
  if (config.masquerade) FLUYT_TRY(remove_masquerade(call));
  return ipam::remove(config.ipam, {call.container_id, call.device}, call.deadline);
}

Result<> ptp_status(const Call& call) {
  FLUYT_TRY(parse(call.request));
  return {};
}

Result<> ptp_collect(const Call& call) {
  const Config config = FLUYT_TRY(parse(call.request));
  return ipam::collect(config.ipam, call);
}

}  // namespace fluyt::network::builtin
