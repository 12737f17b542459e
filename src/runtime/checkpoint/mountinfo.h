#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"

namespace fluyt::runtime::checkpoint {

/// One line of /proc/PID/mountinfo (proc_pid_mountinfo(5)), its escapes undone.
struct MountInfo {
  uint64_t id = 0;
  uint64_t parent = 0;
  std::string device;  // "0:21"
  std::string root;
  std::string point;
  std::vector<std::string> options;  // of the mount: "ro", "nosuid", ...
  std::string type;
  bool has(std::string_view option) const;
};

/// Pure. A line of another form is kDataLoss.
Result<std::vector<MountInfo>> parse_mountinfo(std::string_view text);
/// Of the mount namespace that process `pid` is in, as far as its root lets one see.
Result<std::vector<MountInfo>> read_mountinfo(int pid);

}  // namespace fluyt::runtime::checkpoint
