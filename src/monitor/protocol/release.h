#pragma once

#include <string_view>

namespace fluyt::monitor {

/// The release of this program, as hello says it. One place in a program: a copy with other words
/// there is what tests take for another build.
std::string_view release();

}  // namespace fluyt::monitor
