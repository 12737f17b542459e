#pragma once

#include <sys/types.h>

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

namespace fluyt::engine {

/// What the processes of a container hold together.
struct ProcessTotals {
  uint64_t processes = 0;
  /// Nothing where there were more than could be looked at.
  std::optional<uint64_t> file_descriptors;
  std::optional<uint64_t> sockets;
  std::optional<uint64_t> max_open_files;  // the first process's soft limit; nothing: unlimited
};

/// How many descriptors are looked at, at most, for one container.
inline constexpr size_t kMaxDescriptors = 65'536;

/// Reads `proc`/<pid>/fd and limits (`proc` is /proc, but for tests). What a descriptor is, its
/// link says, which is read and never followed: nothing here touches the file behind it. Processes
/// that end meanwhile are left out.
ProcessTotals read_processes(const std::string& proc, const std::vector<pid_t>& pids,
                             pid_t first_pid);

}  // namespace fluyt::engine
