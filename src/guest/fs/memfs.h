#pragma once

#include <memory>
#include <string_view>

#include "guest/vfs/inode.h"

namespace fluyt::guest {

/// tmpfs: a tree in the sentry. Bytes of regular files lie in memfds, so that they can be mapped.
InodePtr make_memfs(uint32_t root_mode);

}  // namespace fluyt::guest
