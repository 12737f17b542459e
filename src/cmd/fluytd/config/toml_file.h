#pragma once

#include <string>
#include <string_view>

#include "base/result.h"
#include "cmd/fluytd/config/value.h"

namespace fluyt::daemon {

/// The file's table. What is not TOML, or not plain ASCII outside lines of comment, is
/// kInvalidArgument with file and line; at most a mebibyte.
Result<Value> read_toml(const std::string& path);
/// `name` stands for the file in places and errors.
Result<Value> parse_toml(std::string_view bytes, const std::string& name);

}  // namespace fluyt::daemon
