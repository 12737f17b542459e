#pragma once

#include <cstdint>
#include <vector>

#include "base/result.h"
#include "monitor/protocol/messages.h"
#include "monitor/protocol/state_folder.h"
#include "sys/fd.h"
#include "sys/process.h"

namespace fluyt::monitor {

struct PodInit {
  sys::Process process;
  ProcessRecord record;
};

struct JoinedNamespace {
  uint64_t type = 0;  // CLONE_NEW*
  sys::Fd fd;
};

/// In a worker: makes the first process of a new PID namespace and returns when it runs `program`.
/// It is the monitor's child, not the worker's, in the namespaces `joined`, the user namespace
/// first, and for the rest in the worker's. Containers may look into it (CAP_SYS_PTRACE), so it is
/// given nothing: an empty read-only root of its own, no descriptor, no environment, no capability,
/// a cgroup of its own, memory made clean by execve, a user that no container can become.
Result<PodInit> start_pod_init(const SandboxRequest& request, const std::string& state_dir,
                               sys::FdRef program, const std::vector<JoinedNamespace>& joined);

}  // namespace fluyt::monitor
