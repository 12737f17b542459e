#pragma once

#include <sys/types.h>

#include <string>
#include <vector>

#include "base/result.h"

namespace fluyt::sys {

/// The seccomp filters of thread `thread`, newest first, each as the bytes of its struct
/// sock_filter array (PTRACE_SECCOMP_GET_FILTER: Linux 4.4 with CONFIG_CHECKPOINT_RESTORE, for a
/// caller with CAP_SYS_ADMIN and without a filter of its own). The thread must stand still in a
/// group stop (SIGSTOP): it is traced for the while, and stands still again afterwards. At most
/// `limit` filters.
Result<std::vector<std::string>> seccomp_filters_of(pid_t thread, size_t limit);

}  // namespace fluyt::sys
