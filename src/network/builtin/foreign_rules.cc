#include "network/builtin/foreign_rules.h"

#include <sys/socket.h>

#include <nlohmann/json.hpp>

#include "base/strings.h"
#include "network/builtin/rules.h"
#include "sys/iptables_legacy.h"

namespace fluyt::network {

namespace {

using Json = nlohmann::json;

std::string drop_in(std::string_view text) {
  const Json listing = Json::parse(text);
  for (const Json& object : listing.at("nftables")) {
    const auto chain = object.find("chain");
    if (chain == object.end()) continue;
    const std::string table =
        cat(chain->at("family").get<std::string>(), " ", chain->at("table").get<std::string>());
    if (table == kTable || chain->value("hook", "") != "forward") continue;
    const std::string name =
        cat("nftables table ", table, ", chain ", chain->at("name").get<std::string>());
    // It forwards for zones that it knows, and rejects the rest by its last rule.
    if (table == "inet firewalld") return cat(name, ": firewalld is running");
    if (chain->value("policy", "") == "drop") return cat(name, ", has the policy drop");
  }
  return "";
}

}  // namespace

Result<std::string> find_drop_in(std::string_view chains_json) {
  try {
    return drop_in(chains_json);
  } catch (const Json::exception& error) {
    return Error(Code::kInternal, cat("nftables: its chains: ", quote(error.what(), 128)));
  }
}

Result<std::string> find_foreign_drop(Nft& nft) {
  std::string found = FLUYT_TRY(find_drop_in(FLUYT_TRY(nft.run("list chains"))));
  if (!found.empty()) return found;
  for (const int family : {AF_INET, AF_INET6}) {
    if (!FLUYT_TRY(sys::legacy_forward_drops(static_cast<uint8_t>(family)))) continue;
    return cat(family == AF_INET ? "iptables-legacy" : "ip6tables-legacy",
               " table filter, chain FORWARD, has the policy drop");
  }
  return std::string();
}

}  // namespace fluyt::network
