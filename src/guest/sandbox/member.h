#pragma once

#include <cstdint>
#include <string>

#include "base/result.h"
#include "sys/fd.h"

/// A container that is taken in by another one's sandbox, from its own side: the process that lives
/// in its namespaces and its cgroup on the host, holds its mounts through a broker, and ends as its
/// program does.
namespace fluyt::guest {

/// Who is to be put into which cgroup before the container's first program is made.
struct Born {
  int32_t ancestor = 0;  // of its programs' processes, as the sandbox has it: the container's
  int32_t broker = 0;    // as the member has it: the sandbox's
};

struct MemberRequest {
  sys::Fd text;      // a SandboxRequest
  sys::Fd sandbox;   // a connection to the sandbox's control socket
  sys::Fd listener;  // listens already: the container's own control socket, for the sandbox
  sys::Fd born;      // gets a Born
  sys::Fd go;        // one byte: they were moved
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
