#pragma once

#include "guest/task/task.h"

/// Descriptors of processes (pidfd_open(2)).
namespace fluyt::guest {

/// `flags`: O_NONBLOCK or 0.
FilePtr make_pid_file(ProcessPtr process, int flags);
/// The process that a descriptor means; EBADF when it means none.
ErrnoOr<ProcessPtr> process_of(Task& task, int fd, bool* nonblocking = nullptr);

}  // namespace fluyt::guest
