#include "network/builtin/device_check.h"

#include <algorithm>

#include "base/strings.h"
#include "network/builtin/result_form.h"
#include "network/builtin/sandbox_device.h"

namespace fluyt::network::builtin {

namespace {

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

}  // namespace

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

const Json* find_interface(const Json& result, size_t at) {
  const auto interfaces = result.find("interfaces");
  if (interfaces == result.end() || !interfaces->is_array() || interfaces->size() <= at) {
    return nullptr;
  }
  return &(*interfaces)[at];
}

Result<> check_device(const Call& call, const Json& result, size_t at,
                      const std::function<Result<>(const sys::LinkDetails&)>& more) {
  const Json* interface = find_interface(result, at);
  if (interface == nullptr) {
    return Error(Code::kInvalidArgument,
                 cat("prevResult.interfaces: more than ", at, " are expected"));
  }
  const auto addresses = FLUYT_TRY(addresses_of(result, call.device));
  return in_sandbox(call, [&](sys::Netlink& pod) -> Result<> {
    const auto device = FLUYT_TRY(get_same(pod, *interface));
    if (more) FLUYT_TRY(more(device));
    FLUYT_TRY(check_addresses(pod, device.index, addresses));
    return check_routes(pod, device.index, result.value("routes", Json()));
  });
}

}  // namespace fluyt::network::builtin
