#pragma once

#include "base/result.h"
#include "sys/fd.h"

namespace fluyt::sys {

/// A detached, private, read-only mount of the file that we run from.
Result<Fd> read_only_self();

}  // namespace fluyt::sys
