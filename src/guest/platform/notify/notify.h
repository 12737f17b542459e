#pragma once

#include <memory>

#include "base/result.h"
#include "guest/platform/platform.h"

namespace fluyt::guest {

/// Guest code in stub processes under seccomp user notification: a listener a guest thread, memory
/// left to the host's MMU. Linux 5.19 or later; works as any user. To be created by a thread that
/// lives as long as the platform (stubs die with it), before others exist.
Result<std::unique_ptr<Platform>> create_notify_platform();

/// Why this host cannot have it; empty when it can.
std::string notify_platform_missing();

}  // namespace fluyt::guest
