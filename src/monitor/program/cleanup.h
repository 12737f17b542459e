#pragma once

#include <string>

#include "base/result.h"
#include "base/time.h"
#include "monitor/protocol/messages.h"

namespace fluyt::monitor {

/// Has the program delete a container, when no process of it is left, and removes its state
/// (ROOT/ID) where the program did not: it may be gone, or broken, and what it left must go all the
/// same. Called from any thread. An error says what the program could not do; the state is gone
/// then too.
Result<> delete_with_program(const RuntimeProgram& runtime, const std::string& id,
                             Deadline deadline);

}  // namespace fluyt::monitor
