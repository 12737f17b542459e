#pragma once

#include <string_view>

#include "base/result.h"
#include "sys/fd.h"

namespace fluyt::runtime {

enum class TargetKind { kDirectory, kFile };

/// The place in `root` that `path` names, O_PATH, made where it is missing: directories, and a last
/// component of `kind`. Links are followed within the root; a dangling one leads to where it
/// points, and that is made. Every component is made on the descriptor of its parent.
Result<sys::Fd> open_target(sys::FdRef root, std::string_view path, TargetKind kind);

/// The same, but the last component itself: a link that is there is not followed.
Result<sys::Fd> open_target_itself(sys::FdRef root, const std::string& path, TargetKind kind);

/// The same for procfs and sysfs and what lies in procfs: no link on the way (CVE-2019-19921).
Result<sys::Fd> open_plain_target(sys::FdRef root, std::string_view path, TargetKind kind);

}  // namespace fluyt::runtime
