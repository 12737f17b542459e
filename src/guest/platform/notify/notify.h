#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "base/result.h"
#include "guest/platform/platform.h"

namespace fluyt::guest {

/// The host's vdso and the pages in front of it, which move into every stub.
struct HostClock {
  struct Piece {
    uint64_t start = 0;
    uint64_t end = 0;
  };
  std::vector<Piece> pieces;  // ascending, each next to the one before; the last is the vdso
};
/// As `maps`, /proc/self/maps, has them. Empty: there are none, or none that can be moved.
HostClock find_host_clock(const std::string& maps);

/// Whether the host may run out of it for us. Then the memory that a call is about to fill is made
/// by the guest's own process first: where we make it by copying to it, the host ends one guest
/// process after the other, for it cannot take back what we are about to write to.
enum class Memory : uint8_t { kPlenty, kLimited };

/// Guest code in stub processes under seccomp user notification: a listener a guest thread, memory
/// left to the host's MMU. Linux 5.19 or later; works as any user. To be created by a thread that
/// lives as long as the platform (stubs die with it), before others exist. `descriptors` is what
/// its own stubs may have of ours; null: as many as there are.
Result<std::unique_ptr<Platform>> create_notify_platform(
    const HostClock& clock = {}, Memory memory = Memory::kPlenty,
    std::shared_ptr<Quota> descriptors = nullptr);

/// Why this host cannot have it; empty when it can.
std::string notify_platform_missing();

}  // namespace fluyt::guest
