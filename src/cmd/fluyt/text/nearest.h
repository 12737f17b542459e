#pragma once

#include <string>
#include <string_view>
#include <vector>

namespace fluyt::cli {

/// Of `names` the one that `word` was probably meant to be: within two changes, insertions,
/// removals or swaps of neighbours, and no further than half of it away. Empty: none is so near.
std::string nearest(std::string_view word, const std::vector<std::string>& names);

}  // namespace fluyt::cli
