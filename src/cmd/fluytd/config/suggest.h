#pragma once

#include <string>
#include <string_view>
#include <vector>

namespace fluyt::daemon {

/// The name that somebody who wrote `unknown` most likely meant: the same last word in another
/// table, or one a few letters away. Nothing near: "".
std::string nearest(std::string_view unknown, const std::vector<std::string>& known);

}  // namespace fluyt::daemon
