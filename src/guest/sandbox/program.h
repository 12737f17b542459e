#pragma once

#include <array>
#include <memory>

#include "base/result.h"
#include "guest/sandbox/sandbox.h"
#include "guest/task/task.h"

/// Starting a program in a guest kernel from outside.
namespace fluyt::guest {

struct Prepared {
  TaskPtr task;
  ProcessPtr process;
};

/// Everything but the first instruction: the process is in the kernel's tables, leads a session of
/// its own, and has `terminal` for a controlling one where there is one. Errors are those of
/// execve(2) with the path that was tried.
Result<Prepared> prepare_program(Kernel& kernel, const ContainerPtr& container,
                                 const ProgramRequest& request, std::array<FilePtr, 3> streams,
                                 const std::shared_ptr<Terminal>& terminal);

}  // namespace fluyt::guest
