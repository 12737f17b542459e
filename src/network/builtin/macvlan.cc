#include <linux/if_link.h>

#include "base/strings.h"
#include "network/builtin/child_device.h"
#include "network/builtin/plugins.h"
#include "network/builtin/result_form.h"

namespace fluyt::network::builtin {

namespace {

Result<uint32_t> mode_of(const Json& request) {
  const std::string mode = FLUYT_TRY(text_of(request, "mode"));
  if (mode.empty() || mode == "bridge") return static_cast<uint32_t>(MACVLAN_MODE_BRIDGE);
  if (mode == "private") return static_cast<uint32_t>(MACVLAN_MODE_PRIVATE);
  if (mode == "vepa") return static_cast<uint32_t>(MACVLAN_MODE_VEPA);
  if (mode == "passthru") return static_cast<uint32_t>(MACVLAN_MODE_PASSTHRU);
  return wrong_field("mode", Json(mode), "bridge, private, vepa or passthru");
}

Result<ChildConfig> parse(const Json& request) {
  ChildConfig config = FLUYT_TRY(parse_child(request, "macvlan"));
  config.number = FLUYT_TRY(mode_of(request));
  config.mac = FLUYT_TRY(mac_of(request, "mac"));
  if (!ipam::is_none(config.ipam)) config.sysctls = {{"ipv4/conf/DEVICE/arp_notify", "1"}};
  return config;
}

}  // namespace

std::string macvlan_why_not(const Json& config) { return child_why_not(config, {"mode", "mac"}); }

Result<Json> macvlan_add(const Call& call) {
  return child_add(call, FLUYT_TRY(parse(call.request)));
}
Result<> macvlan_check(const Call& call) {
  return child_check(call, FLUYT_TRY(parse(call.request)));
}
Result<> macvlan_remove(const Call& call) {
  return child_remove(call, FLUYT_TRY(parse(call.request)));
}
Result<> macvlan_status(const Call& call) { return child_status(FLUYT_TRY(parse(call.request))); }
Result<> macvlan_collect(const Call& call) {
  return child_collect(call, FLUYT_TRY(parse(call.request)));
}

}  // namespace fluyt::network::builtin
