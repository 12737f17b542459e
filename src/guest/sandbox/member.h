#pragma once

#include <string>

#include "base/result.h"
#include "sys/fd.h"

/// A container that is taken in by another one's sandbox, from its own side: the process that lives
/// in its namespaces and its cgroup on the host, holds its mounts through a broker, and ends as its
/// program does.
namespace fluyt::guest {

struct MemberRequest {
  sys::Fd text;      // a SandboxRequest
  sys::Fd sandbox;   // a connection to the sandbox's control socket
  sys::Fd listener;  // listens already: the container's own control socket, for the sandbox
  sys::Fd born;      // gets a pid_t as the sandbox has it: who is to be moved into the cgroup
  sys::Fd go;        // one byte: it was
  sys::Fd ready;     // as ContainerRequest has them
  sys::Fd gate;
  sys::Fd report;
  sys::Fd strace;
  sys::Fd log;
};

/// Its program's status as wait(2) has it; SIGKILL's when the sandbox is gone. For a process of one
/// thread, which stays without privileges.
Result<int> run_member(MemberRequest request);

}  // namespace fluyt::guest
