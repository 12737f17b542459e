#pragma once

#include <functional>

#include "base/result.h"
#include "sys/fd.h"

namespace fluyt::sys {

/// Runs `body` in the network namespace `network`, on a thread made for it: setns(2) changes a
/// thread for good. Returns when it is done. /proc/sys/net shows that namespace to the body, and
/// sockets that it opens stay in it.
Result<> in_network(FdRef network, const std::function<Result<>()>& body);

}  // namespace fluyt::sys
