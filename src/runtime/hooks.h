#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "oci/runtime_spec.h"

namespace fluyt::runtime {

/// Runs hooks one after the other, each with `state_json` on its standard input, exactly its own
/// environment, `cwd` as working directory, its timeout. The first that fails is the error, with
/// the end of what it wrote. `kind` names the list, such as "createRuntime".
Result<> run_hooks(const std::vector<oci::Hook>& hooks, std::string_view kind,
                   const std::string& state_json, const std::string& cwd = "/");

}  // namespace fluyt::runtime
