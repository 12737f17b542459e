#pragma once

#include "base/result.h"
#include "sys/fd.h"

namespace fluyt {

/// Shuts this process in with one directory: a mount namespace of its own whose root is `tree`, no
/// capability but what making files of any kind needs, no new privileges, no core dumps. Everything
/// that is still to be opened elsewhere is opened before, threads are started after it. `tree` is
/// replaced by a descriptor inside the new root. Needs CAP_SYS_ADMIN. There is no way back; after
/// an error the process must end.
Result<> confine(sys::Fd& tree);

/// Leaves all threads of this process only the system calls of reading a pipe and making files;
/// none starts another thread.
Result<> confine_calls();

}  // namespace fluyt
