#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"

/// What a runtime looks up for a program before it starts it, whoever opens the files.
namespace fluyt {

/// The whole entry, "NAME=value"; the last one counts, as in a shell. Null when there is none.
const std::string* find_variable(const std::vector<std::string>& environment,
                                 std::string_view name);

/// More of an image's /etc/passwd is not read.
inline constexpr size_t kMaxPasswdBytes = size_t{1} << 20;
/// The home of `uid` in the text of a passwd(5); "/" where it has none that can be used.
std::string find_home(std::string_view passwd, uint32_t uid);

/// Whether a path can be executed; otherwise an error with the errno of why.
using IsExecutable = std::function<Result<>(const std::string& path)>;
/// The first path that can be executed, of a name without a slash in the folders of PATH, or of
/// `name` itself. Errors name process.args[0]; those for which shells have 126 and 127 are
/// kPermissionDenied and kNotFound, in the words by which callers tell them apart.
Result<std::string> find_program(const std::string& name,
                                 const std::vector<std::string>& environment,
                                 const IsExecutable& is_executable);

}  // namespace fluyt
