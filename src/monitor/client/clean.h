#pragma once

#include "base/result.h"
#include "base/time.h"
#include "monitor/client/client.h"
#include "sys/process.h"

namespace fluyt::monitor {

/// Waits for a process that need not be our child. False at the deadline.
Result<bool> wait_gone(const sys::Process& process, Deadline deadline);

}  // namespace fluyt::monitor
