#include "network/builtin/static_ipam.h"

#include <algorithm>

#include "base/strings.h"
#include "network/builtin/host_local.h"

namespace fluyt::network::static_ipam {

namespace {

constexpr size_t kMaxAddresses = 64;

Result<Json> ip_of(const Json& object) {
  if (!object.is_object()) {
    return Error(Code::kInvalidArgument, cat("an object is expected, not ", shown(object)));
  }
  const std::string text = FLUYT_TRY(text_of(object, "address"));
  const auto address = find_prefix(text);
  if (!address) return wrong_field("address", Json(text), "an address with a prefix length");
  Json ip = {{"address", address->text()}};
  const auto gateway = FLUYT_TRY(address_of(object, "gateway"));
  if (gateway && gateway->v4() != address->address.v4()) {
    return wrong_field("gateway", object.at("gateway"), cat("one of the family of ", text));
  }
  if (gateway) ip["gateway"] = gateway->text();
  return ip;
}

}  // namespace

std::string why_not(const Json& ipam) {
  std::vector<std::string> unknown = unknown_keys(ipam, {"addresses", "routes", "dns"});
  for (std::string& key : host_local::unknown_route_keys(ipam)) unknown.push_back(std::move(key));
  const auto addresses = ipam.find("addresses");
  if (addresses != ipam.end() && addresses->is_array()) {
    for (const Json& address : *addresses) {
      if (!address.is_object()) continue;
      for (const std::string& key : unknown_keys(address, {"address", "gateway"})) {
        unknown.push_back(cat("addresses.", key));
      }
    }
  }
  return unknown.empty() ? "" : cat("ipam.", join(unknown, ", ipam."));
}

Result<Config> parse(const Json& request) {
  const Json& ipam = request.at("ipam");
  Config config{.given = {.ips = Json::array(), .routes = {}, .dns = Json::object()}};
  const Json addresses = ipam.value("addresses", Json::array());
  if (!addresses.is_array() || addresses.empty() || addresses.size() > kMaxAddresses) {
    return wrong_field("ipam.addresses", addresses, cat("a list of 1 to ", kMaxAddresses));
  }
  for (size_t i = 0; i < addresses.size(); ++i) {
    config.given.ips.push_back(
        FLUYT_TRY_CONTEXT(ip_of(addresses[i]), cat("ipam.addresses[", i, "]")));
  }
  config.given.routes = FLUYT_TRY_CONTEXT(host_local::routes_of(ipam), "ipam");
  config.given.dns = ipam.value("dns", Json::object());
  if (!config.given.dns.is_object()) return wrong_field("ipam.dns", config.given.dns, "an object");
  return config;
}

bool holds(const Config& config, const Address& address) {
  return std::any_of(config.given.ips.begin(), config.given.ips.end(), [&](const Json& ip) {
    const auto prefix = find_prefix(ip.value("address", ""));
    return prefix && prefix->address == address;
  });
}

}  // namespace fluyt::network::static_ipam
