#pragma once

#include <string>

#include "base/result.h"
#include "engine/core.h"

namespace fluyt::engine {

/// The OCI process of an exec in `container`: the container's own, with what `options` says in
/// place.
Result<std::string> exec_process_json(Engine::Core& core, const Container& container,
                                      const ExecOptions& options);

}  // namespace fluyt::engine
