#pragma once

#include <sys/types.h>

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "base/result.h"
#include "base/time.h"
#include "sys/fd.h"
#include "sys/patience.h"

namespace fluyt::sys {

/// How a process ended.
struct ExitStatus {
  int code = 0;    // exit status, when signal is 0
  int signal = 0;  // the signal that ended it, or 0
  /// The shell's convention, which CRI and Docker report: 128 + signal, or the code.
  int shell_code() const { return signal != 0 ? 128 + signal : code; }
};

/// A process held by pidfd: the pid cannot be reused under us.
class Process {
 public:
  Process() = default;
  Process(pid_t pid, Fd pidfd) : pid_(pid), pidfd_(std::move(pidfd)) {}
  /// pidfd_open(2): kNotFound when there is no such process.
  static Result<Process> open(pid_t pid);

  bool valid() const { return pidfd_.valid(); }
  pid_t pid() const { return pid_; }
  FdRef pidfd() const { return pidfd_; }
  Fd release_pidfd() { return std::move(pidfd_); }
  /// pidfd_send_signal(2). An ended process is success: what was asked for is so.
  Result<> kill(int signal) const;
  /// Waits for a child of ours and reaps it; nothing when the deadline passes first.
  Result<std::optional<ExitStatus>> wait(Deadline deadline) const;
  /// Reaps a child of ours if it has ended.
  Result<std::optional<ExitStatus>> try_wait() const;

 private:
  pid_t pid_ = -1;
  Fd pidfd_;
};

/// Of /proc/PID/stat.
struct ProcessStat {
  uint64_t start_time = 0;  // as start_time_of()
  bool ended = false;       // a zombie, or about to be none any more
};
Result<ProcessStat> process_stat(pid_t pid);
/// Field 22 of /proc/PID/stat: the start time in clock ticks since boot. With the boot id and the
/// pid it names a process for good. kNotFound when it is gone.
Result<uint64_t> start_time_of(pid_t pid);
/// /proc/sys/kernel/random/boot_id.
Result<std::string> boot_id();

struct SpawnOptions {
  std::vector<std::string> args;            // args[0] is the program, an absolute path, unless
  std::string program;                      // this is one: then args[0] is just what it is called
  std::vector<std::string> env;             // the whole environment
  FdRef in, out, err;                       // invalid: /dev/null
  std::vector<std::pair<FdRef, int>> pass;  // further descriptors and their numbers (>= 3) there
  std::string cwd = "/";
  bool new_session = false;   // setsid(2) first
  bool dies_with_us = false;  // by SIGKILL, once the thread that started it has ended
};
/// Starts a program with exactly the descriptors named, default signal dispositions, an empty mask.
/// A program that is not there is an error here, not an exit status.
Result<Process> spawn(const SpawnOptions& options);

struct Captured {
  ExitStatus status;
  std::string out;
  std::string err;
  // Killed, with all of its process group:
  bool timed_out = false;  // at the deadline
  bool stopped = false;    // at the end of the stop's grace
};
/// Runs a program to its end with `input` on its standard input, keeping at most `limit` bytes of
/// each output (the rest is read and dropped).
Result<Captured> run(SpawnOptions options, std::string_view input, size_t limit, Deadline deadline,
                     Stop stop = {});

}  // namespace fluyt::sys
