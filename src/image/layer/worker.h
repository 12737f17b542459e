#pragma once

#include <atomic>
#include <string>

#include "base/result.h"
#include "sys/fd.h"

/// What the callers of `fluyt-unpack` have in common: waits that somebody may end.
namespace fluyt::image {

/// Until `fd` is ready for `events` (of poll(2)). kCancelled once `cancelled`, which may be null,
/// is true; it is looked at every 100 ms.
Result<> wait_for_worker(sys::FdRef fd, short events, const std::atomic<bool>* cancelled);

/// All of a worker's report, to its end. kCancelled as above; kInternal for more than
/// kMaxReportBytes.
Result<std::string> read_report(sys::FdRef report, const std::atomic<bool>* cancelled);

}  // namespace fluyt::image
