#pragma once

#include <nlohmann/json.hpp>
#include <string>

namespace fluyt::cri {

/// JSON for the `info` of verbose answers; bytes that are not UTF-8 are replaced.
inline std::string dump(const nlohmann::json& value) {
  return value.dump(-1, ' ', false, nlohmann::json::error_handler_t::replace);
}

}  // namespace fluyt::cri
