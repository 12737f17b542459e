#include "base/strings.h"
#include "network/builtin/device_check.h"
#include "network/builtin/foreign_rules.h"
#include "network/builtin/plugins.h"
#include "network/builtin/sandbox_device.h"

/// The program lets a sandbox's packets pass a forward chain that drops the others. Where there is
/// no such chain there is nothing to be done, and where there is one that is not ours the program
/// has to: no rule of ours could undo what another table drops (builtin::why_not_now).
namespace fluyt::network::builtin {

std::string firewall_why_not(const Json& config) {
  std::vector<std::string> out =
      unknown_keys(config, {"backend", "ingressPolicy", "iptablesAdminChainName", "firewalldZone"});
  for (const char* key : {"backend", "iptablesAdminChainName", "firewalldZone"}) {
    const Json value = config.value(key, Json());
    if (!value.is_null() && value != "") out.emplace_back(key);
  }
  const Json policy = config.value("ingressPolicy", Json());
  if (!policy.is_null() && policy != "" && policy != "open") {
    out.push_back(cat("ingressPolicy ", shown(policy)));
  }
  return join(out, ", ");
}

Result<Json> firewall_add(const Call& call) { return previous_result(call); }

Result<> firewall_check(const Call& call) {
  const std::string drop = FLUYT_TRY(call.firewall.find_foreign_drop());
  if (drop.empty()) return {};
  return differs(cat(drop, ", which it had not when the sandbox was attached"));
}

Result<> firewall_remove(const Call& /*call*/) { return {}; }
Result<> firewall_status(const Call& /*call*/) { return {}; }

}  // namespace fluyt::network::builtin
