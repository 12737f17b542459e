#pragma once

#include <string>
#include <variant>
#include <vector>

#include "base/result.h"
#include "base/time.h"
#include "network/builtin/builtin.h"
#include "network/builtin/host_local.h"
#include "network/builtin/static_ipam.h"

/// The "ipam" of an entry: who gives addresses.
namespace fluyt::network::ipam {

struct None {};
using Config = std::variant<None, host_local::Config, static_ipam::Config>;

/// What of an entry's "ipam" we do not implement; empty: nothing.
std::string why_not(const Json& config);
/// Of a plugin's whole configuration. None without an ipam.type.
Result<Config> parse(const Json& request);
inline bool is_none(const Config& config) { return std::holds_alternative<None>(config); }

/// All addresses or none.
Result<Given> add(const Config& config, const Owner& owner, Deadline deadline);
/// kFailedPrecondition when the owner has no address.
Result<> check(const Config& config, const Owner& owner, Deadline deadline);
/// None is success.
Result<> remove(const Config& config, const Owner& owner, Deadline deadline);
/// GC: leases that belong to none of the request's valid attachments, and packet rules about
/// addresses of this configuration that belong to no attachment of any network; with `leftovers`
/// they stay, and it gets a line each.
Result<> collect(const Config& config, const builtin::Call& call);

}  // namespace fluyt::network::ipam
