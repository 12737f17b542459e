#pragma once

#include <string>

#include "base/result.h"
#include "sys/fd.h"

namespace fluyt::image::erofs {

/// Mounts the image `file` at `directory`, read-only, without a loop device (Linux 6.12). Needs
/// CAP_SYS_ADMIN. What the kernel says against it is in the error.
Result<> mount_image(const std::string& file, const std::string& directory);
/// Whether an image is mounted at `directory`.
Result<bool> is_mounted(const std::string& directory);
/// Takes it away from there; who uses it keeps it. Not mounted is success.
Result<> unmount_image(const std::string& directory);

/// Makes an empty image in `folder`, mounts it where nobody sees it, and removes it: an error says
/// why this kernel cannot have layers in images.
Result<> probe(const std::string& folder);
/// The same for layers whose files belong to other ids (Linux 5.19).
Result<> probe_ids(const std::string& folder);

}  // namespace fluyt::image::erofs
