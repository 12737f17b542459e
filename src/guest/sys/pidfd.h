#pragma once

#include "guest/task/task.h"

/// Descriptors of processes (pidfd_open(2)).
namespace fluyt::guest {

/// `flags`: O_NONBLOCK or 0.
FilePtr make_pid_file(ProcessPtr process, int flags);
/// The process that a descriptor means; EBADF when it means none.
ErrnoOr<ProcessPtr> process_of(Task& task, int fd, bool* nonblocking = nullptr);
/// ptrace(2), "Ptrace access mode checking", of another process's credentials. Under Kernel::lock.
bool may_look_into(const Task& task, const Credentials& other);

}  // namespace fluyt::guest
