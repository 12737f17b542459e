#include "base/strings.h"
#include "network/builtin/bridge_config.h"
#include "network/builtin/device_check.h"
#include "network/builtin/plugins.h"
#include "network/builtin/result_form.h"
#include "network/builtin/sandbox_device.h"
#include "sys/netlink.h"

namespace fluyt::network::builtin {

namespace {

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

}  // namespace

Result<> bridge_check(const Call& call) {
  const BridgeConfig config = FLUYT_TRY(parse_bridge(call.request));
  const Json result = FLUYT_TRY(previous_result(call));
  FLUYT_TRY(ipam::check(config.ipam, {call.container_id, call.device}, call.deadline));
  FLUYT_TRY(check_host(config, result));
  FLUYT_TRY(check_device(call, result, 2));
  if (!config.masquerade) return {};
  return check_masquerade(call, FLUYT_TRY(addresses_of(result, call.device)));
}

}  // namespace fluyt::network::builtin
