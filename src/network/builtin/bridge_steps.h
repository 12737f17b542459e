#pragma once

#include "network/builtin/builtin.h"

namespace fluyt::network::builtin {

inline constexpr size_t kBridgeSteps = 7;

/// The first `steps` of a bridge's ADD: what is left behind when fluytd dies in between. With all
/// of them the result, else null.
Result<Json> bridge_add_until(const Call& call, size_t steps);

}  // namespace fluyt::network::builtin
