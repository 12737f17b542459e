#pragma once

#include <string>

#include "base/result.h"
#include "network/builtin/nft.h"

namespace fluyt::network {

/// What in this network namespace, and not of ours, stops forwarded packets unless somebody lets
/// them pass: a forward chain with policy drop, in nftables (iptables-nft's are there too) or in
/// iptables-legacy, or firewalld. Empty: nothing. Reads chains, not rules.
Result<std::string> find_foreign_drop(Nft& nft);

/// The same from what `nft -j list chains` prints.
Result<std::string> find_drop_in(std::string_view chains_json);

}  // namespace fluyt::network
