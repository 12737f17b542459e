#pragma once

#include <nlohmann/json.hpp>
#include <string_view>

#include "base/result.h"

/// For cdi.cc alone.
namespace fluyt::oci::cdi::internal {

/// One YAML document as the JSON that says the same: plain words are null, true, false and integers
/// (0x and 0o or a leading 0 as in YAML 1.1) where they look like them. An alias counts as often as
/// it is used, so that a small file cannot stand for a large one.
Result<nlohmann::json> json_of_yaml(std::string_view text);

}  // namespace fluyt::oci::cdi::internal
