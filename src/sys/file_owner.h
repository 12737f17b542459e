#pragma once

#include <sys/types.h>

#include <memory>

#include "base/result.h"

namespace fluyt::sys {

/// For as long as what it gives is held, what the calling thread makes belongs to these ids
/// (setfsuid(2), setfsgid(2)), with the capabilities that the thread has: a file system whose ids
/// are mapped takes nothing from an id that it does not know (EOVERFLOW). To be let go by the same
/// thread.
Result<std::shared_ptr<void>> own_new_files(uid_t uid, gid_t gid);

}  // namespace fluyt::sys
