#pragma once

#include <sys/types.h>

#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "base/result.h"

/// Whether processes get anywhere, so that whoever waits for them can give up before its deadline.
namespace fluyt::monitor {

/// What /proc/PID/status and /proc/PID/stat say of a process.
struct Progress {
  char state = '?';        // R S D T t Z X
  uint64_t switches = 0;   // how often it has left a CPU
  uint64_t cpu_ticks = 0;  // that it has used
  bool ending = false;     // it has begun to go
  bool operator==(const Progress&) const = default;
};
/// kNotFound when it is gone.
Result<Progress> progress_of(pid_t pid);

/// Watches one process that is asked something. It stands still when it is stopped or traced, or
/// waits in the kernel where no signal reaches it and has not moved for a second; one that is slow,
/// or that the kernel slows down, moves.
class StandstillWatch {
 public:
  explicit StandstillWatch(pid_t pid) : pid_(pid) {}
  /// Why it does not answer, or nothing. To be asked every 100 ms or so.
  std::string look();
  /// After looks, at a time when it should have answered: it waits for something to do, and has for
  /// a second. One that waits for a processor does not.
  bool is_idle() const;

 private:
  bool has_not_moved() const;

  pid_t pid_;
  Progress last_;
  int64_t since_ns_ = 0;  // when `last_` was seen first
};

/// Watches processes that were sent SIGKILL: they stand still when none has run for a third of a
/// second. A large one that gives its memory back runs. The init of a PID namespace that has begun
/// to go sleeps until everybody in it has been waited for, which is for others to do: it does not.
class KilledWatch {
 public:
  /// True when all of `pids` stand still. To be asked every 100 ms or so.
  bool stands_still(const std::vector<pid_t>& pids);

 private:
  std::map<pid_t, Progress> last_;
  int64_t since_ns_ = 0;
};

}  // namespace fluyt::monitor
