#pragma once

#include "base/result.h"

namespace fluyt::sys {

/// Unmaps the pages of the program's and its libraries' code, which come back from the page cache
/// one by one as they are used (MADV_DONTNEED), and gives unused heap back. For a daemon at the end
/// of its start: what the start alone needed is most of its resident memory.
Result<> drop_start_pages();

/// Has all threads share two heaps (M_ARENA_MAX, mallopt(3)); before the first of them. For a
/// daemon whose calls come on one thread or another: each thread's own heap would keep what its
/// largest call once took.
void share_heaps();

}  // namespace fluyt::sys
