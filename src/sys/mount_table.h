#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"

namespace fluyt::sys {

/// A line of mountinfo, as far as it is wanted here.
struct MountedAt {
  uint64_t id = 0;
  uint64_t parent = 0;
  std::string device;  // "8:1": of the file system, which stat(2) may give other numbers for
  std::string point;
  bool keeps_labels = false;  // SELinux ones of its files' own: "seclabel"
};

/// The mounts of a mount namespace at one moment (proc_pid_mountinfo(5)).
class MountTable {
 public:
  /// Of the caller's own namespace. Touches none of them: one whose server is gone holds up nobody.
  static Result<MountTable> read();
  /// Pure. Lines that are none are left out.
  static MountTable parse(std::string_view mountinfo);

  /// Null: there is none, or it is another namespace's.
  const MountedAt* find(uint64_t id) const;
  /// What is seen at the path `point`: the last one that was mounted there; null: none is.
  const MountedAt* find_at(std::string_view point) const;
  const std::vector<MountedAt>& all() const { return all_; }

 private:
  std::vector<MountedAt> all_;
};

}  // namespace fluyt::sys
