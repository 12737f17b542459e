#pragma once

#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "oci/runtime_spec.h"

namespace fluyt::spec {

/// Every capability of capabilities(7), with the prefix, in the kernel's order.
std::span<const std::string_view> all_capabilities();
/// The 14 that a container has unless it is told otherwise.
std::span<const std::string_view> default_capabilities();

/// "net_admin", "CAP_NET_ADMIN": "CAP_NET_ADMIN". Unknown names are kInvalidArgument.
Result<std::string> capability_name(std::string_view text);

/// CRI's rules: ALL in add starts from `all`, ALL in drop from none, then the single additions,
/// then the single drops. Ambient ones are added to all five sets.
Result<oci::Capabilities> capability_sets(const std::vector<std::string>& add,
                                          const std::vector<std::string>& drop,
                                          const std::vector<std::string>& ambient,
                                          const std::vector<std::string>& all);

/// All sets but the ambient and inheritable one full.
oci::Capabilities every_capability(const std::vector<std::string>& all);

}  // namespace fluyt::spec
