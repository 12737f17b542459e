#pragma once

#include <functional>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "runtime/cgroup/cgroup.h"

/// Small things that the verbs of this folder share.
namespace fluyt::runtime::cgroup {

/// A fork bomb's cgroup.procs is the longest file there is: 4 million pids.
inline constexpr size_t kMaxFileBytes = 32UL << 20U;

/// Whether the error is that a cgroup is not there (any more): ENOENT, ENODEV.
bool gone(const Error& error);

/// One file of a cgroup. kNotFound also when the cgroup went while it was read (ENODEV).
Result<std::string> read_value(const std::string& directory, std::string_view file);

/// The directory of a v1 controller, nullptr when the record has none.
const std::string* find_legacy(const CgroupRecord& record, std::string_view controller);

/// The v1 directories, each once (co-mounted controllers share one).
std::vector<std::string> legacy_directories(const CgroupRecord& record);
/// With the v2 directory in front.
std::vector<std::string> all_directories(const CgroupRecord& record);

/// Calls `visit` for the cgroup and for each below it, a parent before its children, until it says
/// false. Of any depth, with few descriptors: a container nests as many as it likes. Absent is
/// fine; what is made or removed meanwhile may be met or not.
Result<> walk(const std::string& directory,
              const std::function<Result<bool>(sys::FdRef dir)>& visit);

/// Adds the pids in cgroup.procs of the directory and all below. Absent is fine.
Result<> collect_pids(const std::string& directory, std::vector<pid_t>& out);

/// "populated" or "frozen" of cgroup.events.
Result<bool> event_flag(std::string_view events, std::string_view key);

/// Waits until a flag in the v2 file cgroup.events has a value; true at once when the cgroup is
/// gone. False when the deadline passed.
Result<bool> wait_event(const std::string& directory, std::string_view key, bool value,
                        Deadline deadline);

/// Calls `done` with pauses from 0.5 ms up to 20 ms until it says true or the deadline passes. For
/// what v1 gives no event for, and there only.
Result<bool> retry(Deadline deadline, const std::function<Result<bool>()>& done);

}  // namespace fluyt::runtime::cgroup
