#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <array>

#include "base/strings.h"
#include "network/builtin/bridge_config.h"
#include "network/builtin/bridge_steps.h"
#include "network/builtin/plugins.h"
#include "network/builtin/result_form.h"
#include "network/builtin/sandbox_device.h"
#include "sys/file.h"
#include "sys/netlink.h"

namespace fluyt::network::builtin {

namespace {

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

Result<> Bridge::make_bridge() {
  auto found = FLUYT_TRY(host_.find_details(config_.bridge));
  if (!found) {
    auto made = host_.add_bridge(config_.bridge, config_.mtu);
    if (!made.ok() && made.error().code() != Code::kAlreadyExists) return made;
    // We want to own its routes.
    write_sysctl(cat("ipv6/conf/", config_.bridge, "/accept_ra"), "0").ignore("no IPv6 here");
    found = FLUYT_TRY(get_device(host_, config_.bridge));
  }
  if (found->kind != "bridge") {
    return wrong_field("bridge", Json(config_.bridge), "a bridge's name; that device is not one");
  }
  if (config_.promiscuous && !found->promiscuous) {
    FLUYT_TRY(host_.set_promiscuous(found->index, sys::Switch::kOn));
  }
  if (!found->up) FLUYT_TRY(host_.set_up(found->index));
  bridge_index_ = found->index;
  return {};
}

Result<> Bridge::lease() {
  if (ipam::is_none(config_.ipam)) return {};
  const auto given =
      FLUYT_TRY(ipam::add(config_.ipam, {call_.container_id, call_.device}, call_.deadline));
  addresses_ = plan_addresses(config_, given);
  dns_ = given.dns;
  return {};
}

// The sandbox's end is born in its namespace with its name: a device that is moved later makes the
// kernel wait for every processor.
Result<> Bridge::make_veth() {
  const sys::Fd netns = FLUYT_TRY(sys::open(call_.netns, O_RDONLY));
  port_ = FLUYT_TRY(random_name("veth"));
  FLUYT_TRY(host_.add_veth({.name = port_,
                            .peer_name = call_.device,
                            .mtu = config_.mtu,
                            .master = bridge_index_,
                            .peer_network = netns,
                            .peer_mac = {}}));
  // It has no carrier until the other end is up: nothing has been asked or heard yet.
  write_sysctl(cat("ipv6/conf/", port_, "/accept_ra"), "0").ignore("no IPv6 here");
  if (!config_.hairpin) return {};
  return host_.set_hairpin(FLUYT_TRY(get_device(host_, port_)).index);
}

Result<> Bridge::set_up_sandbox() {
  return in_sandbox(call_, [&](sys::Netlink& pod) -> Result<> {
    const sys::LinkDetails device = FLUYT_TRY(get_device(pod, call_.device));
    mac_ = device.mac;
    if (ipam::is_none(config_.ipam)) return pod.set_up(device.index);
    // No detection of duplicates, which takes a second: leases are unique. Neighbours are told.
    write_sysctl(cat("ipv6/conf/", call_.device, "/accept_dad"), "0").ignore("no IPv6 here");
    write_sysctl(cat("ipv4/conf/", call_.device, "/arp_notify"), "1").ignore("an optimisation");
    return configure_device(pod, device, addresses_, call_.deadline);
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
  const sys::LinkDetails bridge = FLUYT_TRY(get_device(host_, config_.bridge));
  for (const Prefix& gateway : addresses_.gateways) {
    FLUYT_TRY(add_gateway(bridge, gateway));
    FLUYT_TRY(enable_forwarding(gateway.address));
  }
  return {};
}

Result<> Bridge::masquerade() {
  if (!config_.masquerade || addresses_.pod.empty()) return {};
  return builtin::masquerade(call_, addresses_.pod);
}

// The port forwards once the kernel's own work queue has seen both ends up, some milliseconds
// later.
Result<> Bridge::wait_for_port() {
  for (useconds_t pause = 200;; pause = std::min<useconds_t>(pause * 2, 50'000)) {
    if (FLUYT_TRY(get_device(host_, port_)).running) return {};
    if (call_.deadline.passed()) {
      return Error(Code::kDeadlineExceeded, cat("bridge port ", port_, " has not come up"));
    }
    ::usleep(pause);
  }
}

Result<Json> Bridge::result() {
  const sys::LinkDetails bridge = FLUYT_TRY(get_device(host_, config_.bridge));
  const sys::LinkDetails port = FLUYT_TRY(get_device(host_, port_));
  Json result = {
      {"interfaces",
       {{{"name", config_.bridge}, {"mac", mac_text(bridge.mac)}},
        {{"name", port_}, {"mac", mac_text(port.mac)}},
        {{"name", call_.device}, {"mac", mac_text(mac_)}, {"sandbox", call_.netns}}}},
  };
  put_addresses(addresses_, config_.dns, dns_, result);
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
  return ipam::collect(config.ipam, call);
}

// The device first: its address must not be somebody else's while it is still here.
Result<> bridge_remove(const Call& call) {
  const BridgeConfig config = FLUYT_TRY(parse_bridge(call.request));
  FLUYT_TRY(remove_device(call));
  if (config.masquerade && !ipam::is_none(config.ipam)) FLUYT_TRY(remove_masquerade(call));
  return ipam::remove(config.ipam, {call.container_id, call.device}, call.deadline);
}

}  // namespace fluyt::network::builtin
