#include "base/strings.h"
#include "network/builtin/plugins.h"
#include "network/builtin/result_form.h"
#include "network/builtin/sandbox_device.h"
#include "sys/netlink.h"

namespace fluyt::network::builtin {

namespace {

constexpr int kLo = 1;  // in every namespace

}  // namespace

std::string loopback_why_not(const Json& config) { return join(unknown_keys(config, {}), ", "); }

Result<Json> loopback_add(const Call& call) {
  std::vector<sys::LinkAddress> addresses;
  FLUYT_TRY(in_sandbox(call, [&](sys::Netlink& netlink) -> Result<> {
    FLUYT_TRY(netlink.set_up(kLo));
    addresses = FLUYT_TRY(netlink.addresses(kLo));
    return {};
  }));
  if (const auto previous = call.request.find("prevResult"); previous != call.request.end()) {
    return *previous;
  }
  Json result = {
      {"interfaces", {{{"name", "lo"}, {"mac", "00:00:00:00:00:00"}, {"sandbox", call.netns}}}}};
  bool seen[2] = {false, false};  // the first of each family
  for (const sys::LinkAddress& found : addresses) {
    const Prefix prefix{.address = Address{found.address}, .length = found.prefix_length};
    if (std::exchange(seen[prefix.address.v4() ? 0 : 1], true)) continue;
    result["ips"].push_back({{"interface", 0}, {"address", prefix.text()}});
  }
  return result;
}

Result<> loopback_check(const Call& call) {
  return in_sandbox(call, [](sys::Netlink& netlink) -> Result<> {
    const auto lo = FLUYT_TRY(netlink.find_details("lo"));
    if (lo && lo->up) return {};
    return Error(Code::kFailedPrecondition, "lo is down");
  });
}

Result<> loopback_remove(const Call& call) {
  if (call.netns.empty()) return {};
  return in_sandbox(call, [](sys::Netlink& netlink) { return netlink.set_down(kLo); });
}

}  // namespace fluyt::network::builtin
