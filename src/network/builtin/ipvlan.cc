#include <linux/if_link.h>

#include "base/strings.h"
#include "network/builtin/child_device.h"
#include "network/builtin/plugins.h"

namespace fluyt::network::builtin {

namespace {

Result<ChildConfig> parse(const Json& request) {
  ChildConfig config = FLUYT_TRY(parse_child(request, "ipvlan"));
  const std::string mode = FLUYT_TRY(text_of(request, "mode"));
  if (mode == "l3") {
    config.number = IPVLAN_MODE_L3;
  } else if (mode == "l3s") {
    config.number = IPVLAN_MODE_L3S;
  } else if (!mode.empty() && mode != "l2") {
    return wrong_field("mode", Json(mode), "l2, l3 or l3s");
  }
  config.sysctls = {{"ipv4/conf/DEVICE/arp_notify", "1"}};
  return config;
}

}  // namespace

// Without a master the program takes one from an earlier plugin's result; without an address
// manager that result's addresses.
std::string ipvlan_why_not(const Json& config) {
  std::string why = child_why_not(config, {"mode"});
  const auto missing = [&](const char* key) {
    const Json value = config.value(key, Json());
    const bool empty = value.is_null() || value == "" || (value.is_object() && value.empty());
    if (empty) why += cat(why.empty() ? "" : ", ", key, " (missing)");
  };
  missing("master");
  missing("ipam");
  return why;
}

Result<Json> ipvlan_add(const Call& call) {
  return child_add(call, FLUYT_TRY(parse(call.request)));
}
Result<> ipvlan_check(const Call& call) {
  return child_check(call, FLUYT_TRY(parse(call.request)));
}
Result<> ipvlan_remove(const Call& call) {
  return child_remove(call, FLUYT_TRY(parse(call.request)));
}
Result<> ipvlan_status(const Call& call) { return child_status(FLUYT_TRY(parse(call.request))); }
Result<> ipvlan_collect(const Call& call) {
  return child_collect(call, FLUYT_TRY(parse(call.request)));
}

}  // namespace fluyt::network::builtin
