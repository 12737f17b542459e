#pragma once

#include <string>
#include <vector>

namespace fluyt::sys {

/// One overlayfs mount as a value: what `image` hands out and `runtime` mounts, inside the
/// container's own mount namespace, so that the host keeps no mount of it.
struct OverlayMount {
  std::vector<std::string> lower_dirs;  // absolute, topmost first; none: upper_dir is the root as
                                        // it is, and there is nothing to mount
  std::string upper_dir;                // empty with work_dir: the mount is read-only
  std::string work_dir;
  bool operator==(const OverlayMount&) const = default;
};

}  // namespace fluyt::sys
