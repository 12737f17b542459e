#pragma once

#include <sys/resource.h>
#include <sys/types.h>

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "base/result.h"
#include "sys/fd.h"

/// What a process is before it executes a program: ids, limits, scheduling. All of it is about the
/// calling process; single-threaded programs only.
namespace fluyt::sys {

Result<> set_dumpable(bool on);
/// Overwrites what /proc/PID/cmdline and environ show of us: a container's process that may trace
/// others reads both of what is forked into its PID namespace, in the moment before that executes
/// its own program. getenv(3) finds nothing from here on.
void forget_command_line();
Result<> set_no_new_privileges();
/// setgroups(2), setresgid(2), setresuid(2), in this order.
/// Without `groups` they stay as they are.
Result<> set_ids(uid_t uid, gid_t gid, const std::optional<std::vector<gid_t>>& groups);
/// Whether nobody in the user namespace of process `pid` may change its groups
/// (/proc/PID/setgroups).
Result<bool> groups_denied(pid_t pid);
/// CAP_SYS_ADMIN over our own user namespace.
Result<bool> may_administrate();
/// Whether ids mean something else here than on the host: no matter what capabilities there are,
/// the host's own (its cgroups, device nodes) are not theirs. Of /proc/self/uid_map.
bool in_user_namespace();
/// Ends up as root of a new user namespace that knows no id but our own, with mounts of its own.
Result<> become_root_of_ourselves();
Result<> set_groups(const std::vector<gid_t>& groups);
mode_t set_umask(mode_t mask);

/// RLIMIT_NOFILE for "RLIMIT_NOFILE".
std::optional<int> find_rlimit(std::string_view name);
/// prlimit(2); pid 0 is ourselves.
Result<> set_rlimit(pid_t pid, int resource, uint64_t soft, uint64_t hard);
struct Limits {
  uint64_t soft;
  uint64_t hard;
};
Result<Limits> get_rlimit(pid_t pid, int resource);

struct SchedulerAttributes {  // struct sched_attr
  uint32_t policy = 0;
  uint64_t flags = 0;
  int32_t nice = 0;
  uint32_t priority = 0;
  uint64_t runtime = 0;
  uint64_t deadline = 0;
  uint64_t period = 0;
  bool operator==(const SchedulerAttributes&) const = default;
};
/// sched_setattr(2); pid 0 is ourselves.
Result<> set_scheduler(pid_t pid, const SchedulerAttributes& attributes);
/// ioprio_set(2) for ourselves; `value` is class << 13 | level.
Result<> set_io_priority(int value);
Result<> set_personality(unsigned long domain);
/// set_mempolicy(2); `nodes` is a bit set, most significant word last.
Result<> set_memory_policy(int mode, const std::vector<unsigned long>& nodes);
/// sched_setaffinity(2) of process `pid` (0: ourselves) to CPUs by number.
Result<> set_cpu_affinity(pid_t pid, const std::vector<unsigned>& cpus);
/// To every CPU that its cpuset lets it have, whatever its maker was confined to.
Result<> reset_cpu_affinity(pid_t pid);
/// A new session keyring of this name, searchable by its owner (keyctl(2)). A kernel without keys
/// or a filter against keyctl is success: there is nothing to separate then.
Result<> new_session_keyring(const std::string& name);

/// Signal dispositions to default, nothing blocked: what a program expects to be started with.
void reset_signals();
/// SIGPIPE is an error of the write, and nothing more, for as long as this lives.
class IgnoreBrokenPipes {
 public:
  IgnoreBrokenPipes();
  IgnoreBrokenPipes(const IgnoreBrokenPipes&) = delete;
  IgnoreBrokenPipes& operator=(const IgnoreBrokenPipes&) = delete;
  ~IgnoreBrokenPipes();

 private:
  void (*before_)(int);
};
Result<> new_session();
/// chdir(2) to a path of our own root.
Result<> change_directory_to(const std::string& path);
/// getcwd(2) as the kernel says it: not absolute when it cannot be reached from our root.
Result<std::string> working_directory();
/// faccessat(2) with the effective ids and X_OK, on a regular file.
Result<> check_executable(const std::string& path);
/// execve(2) of an open file, which may not be a script. Returns only on error.
Error execute_file(FdRef file, const std::vector<std::string>& args,
                   const std::vector<std::string>& env);
/// execve(2). Returns only on error.
Error execute(const std::string& path, const std::vector<std::string>& args,
              const std::vector<std::string>& env);

}  // namespace fluyt::sys
