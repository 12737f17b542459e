#pragma once

#include <string>
#include <utility>

#include "base/result.h"
#include "monitor/protocol/cgroup.h"
#include "monitor/protocol/state_folder.h"
#include "sys/file.h"
#include "sys/process.h"

namespace fluyt::monitor {

/// For runtime::cgroup::make_own(): the cgroup of a process that is to come is on record in `path`
/// before it is made. Whoever makes it may be killed at any moment.
inline auto record_planned(std::string path) {
  return [path = std::move(path)](const auto& cgroup) -> Result<> {
    ProcessRecord planned;
    planned.boot_id = FLUYT_TRY(sys::boot_id());
    put_cgroup(cgroup, planned);
    return sys::write_file_atomic(sys::kCwd, path, encode(planned), 0600);
  };
}

}  // namespace fluyt::monitor
