#include <fcntl.h>
#include <linux/if_addr.h>
#include <sys/random.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <functional>

#include "base/strings.h"
#include "network/builtin/bridge_config.h"
#include "network/builtin/bridge_steps.h"
#include "network/builtin/plugins.h"
#include "network/builtin/result_form.h"
#include "sys/file.h"
#include "sys/netlink.h"
#include "sys/network_thread.h"

namespace fluyt::network::builtin {

namespace {

const std::vector<std::string_view> kMaps = {"masquerade"};
constexpr const char* kSysctls = "/proc/sys/net/";

Result<> write_sysctl(const std::string& name, std::string_view value) {
  return sys::write_file(sys::kCwd, cat(kSysctls, name), value);
}

// Written only where it is not so already: as a rule it is, and a write costs every device a visit.
Result<> ensure_sysctl(const std::string& name, std::string_view value) {
  const auto present = sys::read_file(cat(kSysctls, name), 64);
  if (present.ok() && trim(*present) == value) return {};
  return write_sysctl(name, value);
}

Result<std::string> random_name() {
  std::array<char, 4> bytes{};
  if (::getrandom(bytes.data(), bytes.size(), 0) != static_cast<ssize_t>(bytes.size())) {
    return Error::from_errno(errno, "getrandom(4)");
  }
  return cat("veth", to_hex(std::string_view(bytes.data(), bytes.size())));
}

// As ip(8) makes it: an IPv4 network has a broadcast address when there is room for one.
sys::LinkAddress link_address(const Prefix& prefix) {
  sys::LinkAddress out{.family = prefix.address.family(),
                       .prefix_length = static_cast<uint8_t>(prefix.length),
                       .address = prefix.address.bytes,
                       .local = prefix.address.bytes,
                       .broadcast = {}};
  if (prefix.address.v4() && prefix.length < 31) out.broadcast = prefix.last().bytes;
  return out;
}

Prefix prefix_of(const sys::LinkAddress& address) {
  return {Address{address.local.empty() ? address.address : address.local}, address.prefix_length};
}

class Bridge {
 public:
  Bridge(const Call& call, BridgeConfig config, sys::Netlink host)
      : call_(call), config_(std::move(config)), host_(std::move(host)) {}

  Result<> make_bridge();
  Result<> lease();
  Result<> make_veth();
  Result<> set_up_sandbox();
  Result<> be_gateway();
  Result<> masquerade();
  Result<> wait_for_port();
  Result<Json> result();

 private:
  Result<sys::LinkDetails> get_details(sys::Netlink& netlink, const std::string& name);
  Result<> configure_device(sys::Netlink& pod);
  Result<> enable_ipv6();
  Result<> wait_for_addresses(sys::Netlink& pod, int index);
  Result<> add_gateway(const sys::LinkDetails& bridge, const Prefix& gateway);

  const Call& call_;
  const BridgeConfig config_;
  sys::Netlink host_;
  int bridge_index_ = 0;
  std::string port_;  // the host's end
  std::string mac_;   // of the sandbox's end
  BridgeAddresses addresses_;
  Json dns_ = Json::object();
};

Result<sys::LinkDetails> Bridge::get_details(sys::Netlink& netlink, const std::string& name) {
  auto found = FLUYT_TRY(netlink.find_details(name));
  if (!found) return Error(Code::kNotFound, cat("device ", quote(name, 16), " is not there"));
  return std::move(*found);
}

Result<> Bridge::make_bridge() {
  auto found = FLUYT_TRY(host_.find_details(config_.bridge));
  if (!found) {
    auto made = host_.add_bridge(config_.bridge, config_.mtu);
    if (!made.ok() && made.error().code() != Code::kAlreadyExists) return made;
    // We want to own its routes.
    write_sysctl(cat("ipv6/conf/", config_.bridge, "/accept_ra"), "0").ignore("no IPv6 here");
    found = FLUYT_TRY(get_details(host_, config_.bridge));
  }
  if (found->kind != "bridge") {
    return wrong_field("bridge", Json(config_.bridge), "a bridge's name; that device is not one");
  }
  if (config_.promiscuous && !found->promiscuous) {
    FLUYT_TRY(host_.set_promiscuous(found->index));
  }
  if (!found->up) FLUYT_TRY(host_.set_up(found->index));
  bridge_index_ = found->index;
  return {};
}

Result<> Bridge::lease() {
  if (!config_.ipam) return {};
  const auto given =
      FLUYT_TRY(host_local::add(*config_.ipam, {call_.container_id, call_.device}, call_.deadline));
  addresses_ = plan_addresses(config_, given);
  dns_ = given.dns;
  return {};
}

// The sandbox's end is born in its namespace with its name: a device that is moved later makes the
// kernel wait for every processor.
Result<> Bridge::make_veth() {
  const sys::Fd netns = FLUYT_TRY(sys::open(call_.netns, O_RDONLY));
  port_ = FLUYT_TRY(random_name());
  FLUYT_TRY(host_.add_veth({.name = port_,
                            .peer_name = call_.device,
                            .mtu = config_.mtu,
                            .master = bridge_index_,
                            .peer_network = netns,
                            .peer_mac = {}}));
  // It has no carrier until the other end is up: nothing has been asked or heard yet.
  write_sysctl(cat("ipv6/conf/", port_, "/accept_ra"), "0").ignore("no IPv6 here");
  if (!config_.hairpin) return {};
  return host_.set_hairpin(FLUYT_TRY(get_details(host_, port_)).index);
}

Result<> Bridge::enable_ipv6() {
  for (const std::string& device : {std::string("lo"), call_.device}) {
    const std::string name = cat("ipv6/conf/", device, "/disable_ipv6");
    if (sys::exists(cat(kSysctls, name))) FLUYT_TRY(ensure_sysctl(name, "0"));
  }
  return {};
}

// Duplicate detection may be on for all devices of the sandbox: the address is of no use before.
Result<> Bridge::wait_for_addresses(sys::Netlink& pod, int index) {
  while (true) {
    bool tentative = false;
    for (const sys::LinkAddress& address : FLUYT_TRY(pod.addresses(index))) {
      if ((address.flags & IFA_F_DADFAILED) != 0) {
        return Error(Code::kAlreadyExists,
                     cat(prefix_of(address).text(), " is in use by another host"));
      }
      tentative = tentative || ((address.flags & IFA_F_TENTATIVE) != 0 && address.scope == 0);
    }
    if (!tentative) return {};
    if (call_.deadline.passed()) {
      return Error(Code::kDeadlineExceeded, "its IPv6 address is tentative still");
    }
    ::usleep(20'000);
  }
}

Result<> Bridge::configure_device(sys::Netlink& pod) {
  const sys::LinkDetails device = FLUYT_TRY(get_details(pod, call_.device));
  mac_ = device.mac;
  if (!config_.ipam) return pod.set_up(device.index);
  const bool has_v6 = std::any_of(addresses_.pod.begin(), addresses_.pod.end(),
                                  [](const Prefix& prefix) { return !prefix.address.v4(); });
  // No detection of duplicates, which takes a second: leases are unique. Neighbours are told.
  write_sysctl(cat("ipv6/conf/", call_.device, "/accept_dad"), "0").ignore("no IPv6 here");
  write_sysctl(cat("ipv4/conf/", call_.device, "/arp_notify"), "1").ignore("an optimisation");
  if (has_v6) FLUYT_TRY(enable_ipv6());
  for (const Prefix& prefix : addresses_.pod) {
    FLUYT_TRY_CONTEXT(pod.add_address(device.index, link_address(prefix)), prefix.text());
  }
  FLUYT_TRY(pod.set_up(device.index));
  if (has_v6) FLUYT_TRY(wait_for_addresses(pod, device.index));
  for (const BridgeAddresses::Way& way : addresses_.ways) {
    auto added = pod.add_route({.family = way.destination.address.family(),
                                .destination = way.destination.network().bytes,
                                .prefix_length = static_cast<uint8_t>(way.destination.length),
                                .gateway = way.gateway ? way.gateway->bytes : "",
                                .device = device.index});
    if (!added.ok() && added.error().code() != Code::kAlreadyExists) {
      return std::move(added).error().add_context(cat("route ", way.destination.text()));
    }
  }
  return {};
}

Result<> Bridge::set_up_sandbox() {
  const sys::Fd netns = FLUYT_TRY(sys::open(call_.netns, O_RDONLY));
  return sys::in_network(netns, [&]() -> Result<> {
    sys::Netlink pod = FLUYT_TRY(sys::Netlink::open());
    return configure_device(pod);
  });
}

// One IPv4 address alone, as the program has it; IPv6 addresses when their networks are apart.
Result<> Bridge::add_gateway(const sys::LinkDetails& bridge, const Prefix& gateway) {
  for (const sys::LinkAddress& present : FLUYT_TRY(host_.addresses(bridge.index))) {
    if (present.family != gateway.address.family()) continue;
    const Prefix other = prefix_of(present);
    if (other == gateway) return {};
    const bool clash =
        gateway.address.v4() || other.contains(gateway.address) || gateway.contains(other.address);
    if (!clash) continue;
    if (!config_.force_address) {
      return Error(Code::kFailedPrecondition,
                   cat("bridge ", config_.bridge, " has the address ", other.text(),
                       ", not the gateway's ", gateway.text(), ", and forceAddress is false"));
    }
    FLUYT_TRY_CONTEXT(host_.delete_address(bridge.index, present), other.text());
  }
  auto added = host_.add_address(bridge.index, link_address(gateway));
  if (!added.ok() && added.error().code() != Code::kAlreadyExists) {
    return std::move(added).error().add_context(gateway.text());
  }
  // Set by somebody, it no longer changes to the lowest of its ports'.
  return host_.set_mac(bridge.index, bridge.mac);
}

Result<> Bridge::be_gateway() {
  if (addresses_.gateways.empty()) return {};
  const sys::LinkDetails bridge = FLUYT_TRY(get_details(host_, config_.bridge));
  for (const Prefix& gateway : addresses_.gateways) {
    FLUYT_TRY(add_gateway(bridge, gateway));
    FLUYT_TRY(
        ensure_sysctl(gateway.address.v4() ? "ipv4/ip_forward" : "ipv6/conf/all/forwarding", "1"));
  }
  return {};
}

Result<> Bridge::masquerade() {
  if (!config_.masquerade || addresses_.pod.empty()) return {};
  const std::string owner = FLUYT_TRY(owner_name(call_.container_id, call_.device));
  Rules rules;
  std::vector<Address> addresses;
  for (const Prefix& prefix : addresses_.pod) {
    add_masquerade(prefix, owner, rules);
    addresses.push_back(prefix.address);
  }
  return call_.firewall.add(rules, addresses);
}

// The port forwards once the kernel's own work queue has seen both ends up, some milliseconds
// later.
Result<> Bridge::wait_for_port() {
  for (useconds_t pause = 200;; pause = std::min<useconds_t>(pause * 2, 50'000)) {
    if (FLUYT_TRY(get_details(host_, port_)).running) return {};
    if (call_.deadline.passed()) {
      return Error(Code::kDeadlineExceeded, cat("bridge port ", port_, " has not come up"));
    }
    ::usleep(pause);
  }
}

Result<Json> Bridge::result() {
  const sys::LinkDetails bridge = FLUYT_TRY(get_details(host_, config_.bridge));
  const sys::LinkDetails port = FLUYT_TRY(get_details(host_, port_));
  Json result = {
      {"interfaces",
       {{{"name", config_.bridge}, {"mac", mac_text(bridge.mac)}},
        {{"name", port_}, {"mac", mac_text(port.mac)}},
        {{"name", call_.device}, {"mac", mac_text(mac_)}, {"sandbox", call_.netns}}}},
      {"dns", config_.dns.empty() ? dns_ : config_.dns},
  };
  if (!addresses_.ips.empty()) result["ips"] = addresses_.ips;
  if (!addresses_.routes.is_null() && !addresses_.routes.empty()) {
    result["routes"] = addresses_.routes;
  }
  return result;
}

using Step = Result<> (Bridge::*)();
constexpr std::array<Step, kBridgeSteps> kSteps = {
    &Bridge::make_bridge, &Bridge::lease,      &Bridge::make_veth,     &Bridge::set_up_sandbox,
    &Bridge::be_gateway,  &Bridge::masquerade, &Bridge::wait_for_port,
};

}  // namespace

Result<Json> bridge_add_until(const Call& call, size_t steps) {
  Bridge bridge(call, FLUYT_TRY(parse_bridge(call.request)), FLUYT_TRY(sys::Netlink::open()));
  for (size_t i = 0; i < std::min(steps, kSteps.size()); ++i) FLUYT_TRY((bridge.*kSteps[i])());
  if (steps < kSteps.size()) return Json();
  return bridge.result();
}

Result<Json> bridge_add(const Call& call) { return bridge_add_until(call, kBridgeSteps); }

Result<> bridge_status(const Call& call) {
  FLUYT_TRY(parse_bridge(call.request));
  return {};
}

// A device goes with its namespace.
Result<> bridge_collect(const Call& call) {
  const BridgeConfig config = FLUYT_TRY(parse_bridge(call.request));
  if (!config.ipam) return {};
  const auto valid = FLUYT_TRY(valid_owners(call.request));
  FLUYT_TRY(call.firewall.collect(
      valid, [&](const Address& address) { return host_local::holds(*config.ipam, address); }));
  return host_local::collect(*config.ipam, valid, call.deadline);
}

// The device first: its address must not be somebody else's while it is still here.
Result<> bridge_remove(const Call& call) {
  const BridgeConfig config = FLUYT_TRY(parse_bridge(call.request));
  if (!call.netns.empty()) {
    const sys::Fd netns = FLUYT_TRY(sys::open(call.netns, O_RDONLY));
    FLUYT_TRY(sys::in_network(netns, [&]() -> Result<> {
      sys::Netlink pod = FLUYT_TRY(sys::Netlink::open());
      const auto device = FLUYT_TRY(pod.find_details(call.device));
      if (!device) return {};
      auto deleted = sys::Netlink::remove_link_here(device->index);
      if (!deleted.ok() && deleted.error().code() != Code::kNotFound) return deleted;
      return {};
    }));
  }
  if (config.masquerade && config.ipam) {
    FLUYT_TRY(call.firewall.remove(FLUYT_TRY(owner_name(call.container_id, call.device)), kMaps));
  }
  if (!config.ipam) return {};
  return host_local::remove(*config.ipam, {call.container_id, call.device}, call.deadline);
}

}  // namespace fluyt::network::builtin
