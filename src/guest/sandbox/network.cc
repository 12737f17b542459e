#include "guest/sandbox/network.h"

#include "guest/net/outside.h"

namespace fluyt::guest {

Result<WayOut> open_way_out(SandboxNetwork network) {
  WayOut out;
  if (network == SandboxNetwork::kNone) return out;
  out.view = FLUYT_TRY(host::look_at_network());
  out.shares_loopback = network == SandboxNetwork::kNamespace;
  out.broker = FLUYT_TRY(host::NetBroker::start(
      out.shares_loopback ? host::HostLoopback::kOurs : host::HostLoopback::kNotOurs));
  return out;
}

void install(WayOut way, const std::shared_ptr<host::Poller>& poller, Network& network) {
  if (!way.broker) return;
  network.interfaces.clear();
  network.interfaces.push_back(loopback());
  for (const host::NetDevice& device : way.view.devices) {
    if (device.name == "lo") continue;
    Interface& made = network.interfaces.emplace_back();
    made.index = device.index;
    made.name = device.name;
    made.flags = device.flags;
    made.mtu = device.mtu;
    made.kind = device.kind;
    made.hardware = device.hardware;
    for (const host::NetDevice::Address& address : device.addresses)
      made.addresses.push_back({{address.bytes, 0, 0}, address.prefix});
  }
  for (const host::NetRoute& route : way.view.routes)
    network.routes.push_back(
        {{route.to, 0, 0}, route.prefix, {route.gateway, 0, 0}, route.index, route.metric});
  network.shares_loopback = way.shares_loopback;
  network.outside = std::make_unique<Outside>(std::move(way.broker), poller);
}

}  // namespace fluyt::guest
