#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "base/time.h"
#include "image/auth/credentials.h"

namespace fluyt::image {

/// Whether `name` can be the X of docker-credential-X: letters, digits, '-', '_', '.', no path.
bool is_helper_name(std::string_view name);

/// Asks docker-credential-<name>, found in `path` (as $PATH has it), for what it knows of
/// `registry`. Nothing when it knows nothing; kFailedPrecondition when it is not there or fails.
Result<std::optional<Credentials>> ask_helper(const std::string& name, const std::string& registry,
                                              std::string_view path,
                                              const std::vector<std::string>& env,
                                              Deadline deadline);

/// What a helper printed, as credentials: {"Username", "Secret"}; the user "<token>" stands for an
/// identity token. The error shows nothing of it.
Result<Credentials> parse_helper_answer(std::string_view json);

}  // namespace fluyt::image
