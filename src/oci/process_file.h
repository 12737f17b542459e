#pragma once

#include <string_view>

#include "base/result.h"
#include "oci/runtime_spec.h"

namespace fluyt::oci {

/// The process object of a file (exec --process), as parse_process(). What it does not name of
/// capabilities, limits, noNewPrivileges, labels, scores and schedulers is as with `own`, the
/// container's program: an exec is not less confined for it.
Result<Process> parse_process_file(std::string_view json, const Process& own);

}  // namespace fluyt::oci
