#pragma once

#include <string>

#include "base/result.h"
#include "base/time.h"
#include "sys/fd.h"

namespace fluyt::sys {

/// Takes the lock (flock(2)) of a file that tells its holder's pid, made if need be; it is held as
/// long as the descriptor. kAlreadyExists with "pid N" when a process that lives has it. A holder
/// that was killed may have left a child that is about to end and has the descriptor too: that one
/// is waited for.
Result<Fd> take_pid_lock(const std::string& path, Deadline patience);

}  // namespace fluyt::sys
