#pragma once

#include <set>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "base/time.h"
#include "network/builtin/address.h"
#include "network/builtin/fields.h"
#include "network/builtin/lease.h"

/// Addresses from ranges of this host, kept as the program host-local keeps them: one file an
/// address in DATA_DIR/NETWORK with the owner's id and device in it, `last_reserved_ip.N` a range
/// set, all under flock(2) of `lock`. Both may use one folder at the same time.
namespace fluyt::network::host_local {

struct Range {
  Prefix subnet;
  Address first, last;  // both may be given out
  Address gateway;      // never is
  bool contains(const Address& address) const;
  bool operator==(const Range&) const = default;
};
using RangeSet = std::vector<Range>;

struct Config {
  std::string folder;
  std::vector<RangeSet> ranges;  // an address is given from each
  Json routes;                   // as written: a list, or null
  std::string resolv_conf;
};

/// Why the program has to do it: keys that we do not implement. Empty: it does not.
std::string why_not(const Json& ipam);
/// Of a plugin's whole configuration (name, ipam). Errors name the field.
Result<Config> parse(const Json& request);

/// Whether one of the ranges has the address.
bool holds(const Config& config, const Address& address);

/// The address after `previous` that is not `taken`, going around the set once; nothing when all
/// are. `previous` outside of the set (or none: empty bytes) starts at its begin.
struct Choice {
  Address address;
  const Range* range = nullptr;
};
std::optional<Choice> choose(const RangeSet& set, const Address& previous,
                             const std::set<Address>& taken);

/// "routes" of IPAM configurations: checked, as written; null: none.
Result<Json> routes_of(const Json& ipam);
/// Keys of them that we do not implement, as "routes.KEY".
std::vector<std::string> unknown_route_keys(const Json& ipam);

/// The "dns" of a result from a resolv.conf's text.
Json parse_resolv_conf(std::string_view text);

/// All addresses or none.
Result<Given> add(const Config& config, const Owner& owner, Deadline deadline);
/// kFailedPrecondition when the owner has no address.
Result<> check(const Config& config, const Owner& owner, Deadline deadline);
/// Removes the addresses of all owners but these ("ID/DEVICE"), or tells `leftovers` of them.
Result<> collect(const Config& config, const std::set<std::string>& valid,
                 std::vector<std::string>* leftovers, Deadline deadline);
/// Whatever the owner has, under any range. None is success.
Result<> remove(const Config& config, const Owner& owner, Deadline deadline);

}  // namespace fluyt::network::host_local
