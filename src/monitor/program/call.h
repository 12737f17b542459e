#pragma once

#include <string>
#include <vector>

#include "base/result.h"
#include "base/time.h"
#include "monitor/program/command.h"
#include "sys/fd.h"
#include "sys/process.h"

namespace fluyt::monitor {

/// One call of a runtime program.
struct ProgramCall {
  Words words;
  sys::FdRef in, out, err;  // invalid: /dev/null
  sys::FdRef input;         // becomes descriptor 3, which kInputPath names; invalid: none
  std::string log;          // the file of --log: read, for errors, and removed
  sys::FdRef err_tail;      // where what it wrote to `err` can be read, when its log is empty
};
inline constexpr const char* kInputPath = "/proc/self/fd/3";

/// Makes this process the one that adopts what a program leaves running. For a worker of the
/// monitor: when it ends, what it has adopted is the monitor's.
Result<> adopt_orphans();

/// Runs the program to its end. For a single-threaded process after adopt_orphans(): at the
/// deadline the program is killed with all that it has started (kDeadlineExceeded). It dies with
/// its caller. An exit status other than 0 is an error with the program's last words: kNotFound
/// where they say that a file is missing, else kFailedPrecondition.
Result<> call_program(const ProgramCall& call, Deadline deadline);

/// Kills and reaps every child of this process, and what they leave, within a second.
void end_adopted();

/// The process that the program has named in its pid file, which is removed. It must be a child of
/// ours, adopted and not yet reaped: then its pid is its own, and the pidfd the right one.
Result<sys::Process> adopted_process(const std::string& pid_file);

}  // namespace fluyt::monitor
