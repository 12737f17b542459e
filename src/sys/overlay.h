#pragma once

#include <string>
#include <vector>

#include "sys/id_range.h"

namespace fluyt::sys {

/// One overlayfs mount as a value: what `image` hands out and `runtime` mounts, inside the
/// container's own mount namespace, so that the host keeps no mount of it.
struct OverlayMount {
  std::vector<std::string> lower_dirs;  // absolute, topmost first; none: upper_dir is the root as
                                        // it is, and there is nothing to mount
  std::string upper_dir;                // empty with work_dir: the mount is read-only
  std::string work_dir;
  /// Where set, the files of the lower directories show under these ids (idmapped mounts of them,
  /// Linux 5.19); what is in upper_dir has them already. Without lower directories upper_dir's do.
  IdMaps ids = {};
  /// Where set, this directory of the tree is what is mounted. Links lead where they do in the
  /// tree.
  std::string sub_path = {};
  /// Where set, all files show under this SELinux label. Takes lower_dirs.
  std::string label = {};
  bool operator==(const OverlayMount&) const = default;
};

}  // namespace fluyt::sys
