#pragma once

#include <sys/types.h>

#include <array>
#include <cstdint>
#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "runtime/caps/caps.h"
#include "runtime/checkpoint/archive.h"
#include "runtime/checkpoint/mountinfo.h"
#include "runtime/plan.h"
#include "runtime/prepare.h"
#include "sys/fd.h"

/// Whether what a restore made has no more than the specification gives (CVE-2026-95837: an archive
/// is not the specification). Everything is read from the host; nothing that the container or the
/// archive says of itself counts. Errors are kPermissionDenied and name the field.
namespace fluyt::runtime::checkpoint {

/// A process as the host sees it.
struct ProcessState {
  pid_t pid = 0;
  std::array<uint32_t, 4> uids{};  // real, effective, saved, file system
  std::array<uint32_t, 4> gids{};
  std::vector<uint32_t> groups;
  caps::Sets capabilities;
  bool no_new_privileges = false;
  int seccomp = 0;                          // 2: filtered
  std::map<uint64_t, uint64_t> namespaces;  // CLONE_NEW* to inode
  int oom_score_adj = 0;
  std::string security_label;
  std::map<int, uint64_t> hard_limits;  // RLIMIT_* to hard limit
};
/// The text of /proc/PID/status. Pure.
Result<ProcessState> parse_status(std::string_view text);
/// The text of /proc/PID/attr/current: AppArmor ends it with a newline, SELinux with a NUL. Pure.
std::string parse_security_label(std::string_view text);
Result<ProcessState> read_process(pid_t pid);

/// Pure. `ours` is the caller's own state, `joined` the inodes of the namespaces by path.
Result<> check_process(const Plan& plan, const ProcessState& seen, const ProcessState& ours,
                       const std::map<uint64_t, uint64_t>& joined);
/// Pure: the filters of one thread, as sys::seccomp_filters_of() gives them.
Result<> check_filters(const Plan& plan, const std::vector<std::string>& filters);
/// Pure: every mount is one of the plan, or one that a container with CAP_SYS_ADMIN makes itself;
/// and has the restrictions of the plan.
Result<> check_mounts(const Plan& plan, const Placed& placed, const std::vector<MountInfo>& mounts,
                      uint64_t root_mount);

/// All of it but the filters, for the container whose first process is `init`.
Result<> verify(const Plan& plan, const HostSide& host, const Archive& archive, pid_t init,
                const std::vector<pid_t>& pids);
/// The filters of every thread of a process that stands still.
Result<> verify_filters(const Plan& plan, pid_t pid);

}  // namespace fluyt::runtime::checkpoint
