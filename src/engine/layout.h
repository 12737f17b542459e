#pragma once

#include <string>

#include "base/result.h"

namespace fluyt::engine {

/// How records and folders look: raised when an older program would misread or spoil them. What is
/// only added does not count, for unknown fields are ignored.
inline constexpr int kLayoutVersion = 1;
inline constexpr const char* kLayoutFile = "layout.json";

/// kFailedPrecondition when `folder` was written by a program with a newer layout, naming the
/// folder, both versions and who wrote it: nothing in it was touched. A folder without a layout
/// file, or that is not there, is of this version.
Result<> check_layout(const std::string& folder);
/// Says on disk that `folder` is of this layout.
Result<> mark_layout(const std::string& folder);

}  // namespace fluyt::engine
