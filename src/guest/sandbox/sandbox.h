#pragma once

#include <cstddef>
#include <string>
#include <vector>

#include "base/result.h"
#include "sys/fd.h"

/// A guest kernel with one program in it, from nothing to the program's end.
namespace fluyt::guest {

struct SandboxRequest {
  std::string root = "/";
  bool read_only = false;
  std::vector<std::string> arguments;  // the program's path first
  std::vector<std::string> environment;
  std::string working_directory = "/";
  std::string host_name = "guest";
  size_t max_tasks = 4096;
  bool strace = false;
  std::string log;  // a file for what is not supported, a line a call; empty: nowhere
};

/// Runs it with our standard streams, confined; the status as wait(2) has it. For a program that
/// has one thread and does nothing else afterwards: the process stays confined.
Result<int> run_sandbox(const SandboxRequest& request);

}  // namespace fluyt::guest
