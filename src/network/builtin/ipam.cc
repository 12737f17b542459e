#include "network/builtin/ipam.h"

#include "base/strings.h"

namespace fluyt::network::ipam {

std::string why_not(const Json& config) {
  const Json ipam = config.value("ipam", Json::object());
  if (!ipam.is_object()) return "";  // parse() says what is wrong
  const Json type = ipam.value("type", Json(""));
  if (type == "host-local") return host_local::why_not(ipam);
  if (type == "static") return static_ipam::why_not(ipam);
  return type.is_null() || type == "" ? "" : cat("ipam.type ", shown(type));
}

Result<Config> parse(const Json& request) {
  const Json ipam = request.value("ipam", Json::object());
  if (!ipam.is_object()) return wrong_field("ipam", ipam, "an object");
  const std::string type = FLUYT_TRY_CONTEXT(text_of(ipam, "type"), "ipam");
  if (type == "host-local") return Config(FLUYT_TRY(host_local::parse(request)));
  if (type == "static") return Config(FLUYT_TRY(static_ipam::parse(request)));
  return Config(None());
}

Result<Given> add(const Config& config, const Owner& owner, Deadline deadline) {
  if (const auto* local = std::get_if<host_local::Config>(&config)) {
    return host_local::add(*local, owner, deadline);
  }
  if (const auto* fixed = std::get_if<static_ipam::Config>(&config)) return fixed->given;
  return Given{.ips = Json::array(), .routes = {}, .dns = Json::object()};
}

Result<> check(const Config& config, const Owner& owner, Deadline deadline) {
  const auto* local = std::get_if<host_local::Config>(&config);
  return local == nullptr ? Result<>() : host_local::check(*local, owner, deadline);
}

Result<> remove(const Config& config, const Owner& owner, Deadline deadline) {
  const auto* local = std::get_if<host_local::Config>(&config);
  return local == nullptr ? Result<>() : host_local::remove(*local, owner, deadline);
}

Result<> collect(const Config& config, const builtin::Call& call) {
  const auto valid = FLUYT_TRY(valid_owners(call.request));
  auto owners = call.attached;
  owners.insert(valid.begin(), valid.end());
  const auto* local = std::get_if<host_local::Config>(&config);
  const auto* fixed = std::get_if<static_ipam::Config>(&config);
  const auto is_in = [&](const Address& address) {
    return local != nullptr ? host_local::holds(*local, address)
                            : fixed != nullptr && static_ipam::holds(*fixed, address);
  };
  FLUYT_TRY(call.firewall.collect(owners, is_in, call.leftovers));
  return local == nullptr ? Result<>()
                          : host_local::collect(*local, valid, call.leftovers, call.deadline);
}

}  // namespace fluyt::network::ipam
