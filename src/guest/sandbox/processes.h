#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"

/// What is told of a container's processes to who asks from outside.
namespace fluyt::guest {

/// Numbers are those of the container's PID namespace, ids those of its first user namespace.
struct ProcessRow {
  int32_t pid = 0;
  int32_t parent = 0;
  int32_t group = 0;
  int32_t session = 0;
  uint32_t uid = 0;
  uint32_t gid = 0;
  std::string terminal;  // "pts/0"; "?": none
  char state = 'S';      // as proc_pid_stat(5) has it
  int nice = 0;
  uint64_t threads = 0;
  int64_t age_ms = 0;
  int64_t used_ms = 0;  // processor time
  uint64_t mapped_bytes = 0;
  uint64_t usable_bytes = 0;  // what /proc calls resident
  std::string name;
  std::string arguments;  // with blanks between them; "[name]" where there are none
  bool operator==(const ProcessRow&) const = default;
};

/// A line each, of fields between tabs. What in a name is no character that can be printed is '?'.
std::string to_text(const std::vector<ProcessRow>& rows);
Result<std::vector<ProcessRow>> parse_processes(std::string_view text);

}  // namespace fluyt::guest
