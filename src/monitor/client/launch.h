#pragma once

#include "base/result.h"
#include "base/time.h"
#include "monitor/client/client.h"
#include "sys/fd.h"

namespace fluyt::monitor {

/// A detached read-only mount of one program file, to execute it from: nobody who reaches the
/// running program through /proc can open it for writing (the class of CVE-2019-5736), and every
/// process started from it shares its pages.
Result<sys::Fd> mount_program(const std::string& path);

/// Starts a monitor whose parent is init, and returns when it listens. `monitor` and `pod_init` are
/// what mount_program() gave. At the deadline it is ended.
Result<> start_monitor(const LaunchOptions& options, sys::FdRef monitor, sys::FdRef pod_init,
                       Deadline deadline);

}  // namespace fluyt::monitor
