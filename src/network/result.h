#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"

/// What plugins answer: outsiders' text, bounded and checked.
namespace fluyt::network {

inline constexpr size_t kMaxPluginOutput = 1U << 20U;

/// An ADD's answer in any form from 0.3.0 to 1.1.0.
struct PluginResult {
  std::string json;              // as the next plugin gets it: compact, with cniVersion
  std::vector<std::string> ips;  // of the interface in the sandbox, without prefix length, in order
};
/// `version` is what the plugin was asked in; addresses of other interfaces than `interface` (the
/// host's end, say) are left out.
Result<PluginResult> parse_result(std::string_view output, std::string_view version,
                                  std::string_view interface);

/// A failed plugin as an Error: its {code, msg, details} when `out` (or `err`) holds them, else the
/// exit status and the end of what it printed, quoted. Code 11 (try again later) is kUnavailable.
Error parse_failure(int shell_code, std::string_view out, std::string_view err);

}  // namespace fluyt::network
