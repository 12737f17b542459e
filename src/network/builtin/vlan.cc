#include "base/strings.h"
#include "network/builtin/child_device.h"
#include "network/builtin/plugins.h"

namespace fluyt::network::builtin {

namespace {

Result<ChildConfig> parse(const Json& request) {
  ChildConfig config = FLUYT_TRY(parse_child(request, "vlan"));
  if (config.master.empty()) {
    return wrong_field("master", request.value("master", Json()), "a device of this host");
  }
  config.number = static_cast<uint32_t>(FLUYT_TRY(number_of(request, "vlanId", 0, 4094, 0)));
  if (ipam::is_none(config.ipam)) {
    return wrong_field("ipam", request.value("ipam", Json()), "who gives addresses");
  }
  return config;
}

}  // namespace

std::string vlan_why_not(const Json& config) { return child_why_not(config, {"vlanId"}); }

Result<Json> vlan_add(const Call& call) { return child_add(call, FLUYT_TRY(parse(call.request))); }
Result<> vlan_check(const Call& call) { return child_check(call, FLUYT_TRY(parse(call.request))); }
Result<> vlan_remove(const Call& call) {
  return child_remove(call, FLUYT_TRY(parse(call.request)));
}
Result<> vlan_status(const Call& call) { return child_status(FLUYT_TRY(parse(call.request))); }
Result<> vlan_collect(const Call& call) {
  return child_collect(call, FLUYT_TRY(parse(call.request)));
}

}  // namespace fluyt::network::builtin
