#pragma once

#include <string>

#include "base/result.h"

namespace fluyt::engine {

/// A monitor that was killed may have been within a write: the kernel then leaves a line without
/// its end. That line is cut off, so that every line of the log is whole. `path` is relative to
/// `directory`, and no link is followed below it. No such file is success; a file that ends with a
/// line's end stays as it is.
Result<> mend_log(const std::string& directory, const std::string& path);

/// The same, given up after `wait_ms`: what hangs in a dead file system is left behind, and
/// kDeadlineExceeded.
Result<> mend_log_soon(const std::string& directory, const std::string& path, int64_t wait_ms);

}  // namespace fluyt::engine
