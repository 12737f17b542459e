#pragma once

#include <string>
#include <string_view>

#include "base/result.h"

/// Names of systemd's units, and where their cgroups lie. Pure.
namespace fluyt::runtime::cgroup::systemd {

struct ScopePath {
  std::string slice;  // "machine-a.slice"
  std::string unit;   // "runf-4f2a.scope"
  std::string path;   // "/machine.slice/machine-a.slice/runf-4f2a.scope"
  bool operator==(const ScopePath&) const = default;
};
/// linux.cgroupsPath of the systemd driver, "slice:prefix:name" (runc's convention): the scope
/// prefix-name.scope, or name.scope without a prefix. An empty path is :runf:<id>, an empty slice
/// `default_slice`.
Result<ScopePath> scope_path(std::string_view cgroups_path, std::string_view id,
                             std::string_view default_slice);

/// "/a.slice/a-b.slice" of "a-b.slice"; "" of "-.slice", the root.
Result<std::string> expand_slice(std::string_view slice);

/// The path of a unit's object on the bus: bytes other than letters and digits as _xx.
std::string unit_object(std::string_view unit);

/// 252 of "252.39-1~deb12u1" or "v252"; 0 when there is no number.
int parse_version(std::string_view text);

}  // namespace fluyt::runtime::cgroup::systemd
