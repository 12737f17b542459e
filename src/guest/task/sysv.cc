#include "guest/task/sysv.h"

#include <algorithm>

namespace fluyt::guest {

void SysV::undo(const SemaphoreUndo& undone, int32_t pid) {
  constexpr int32_t kHighest = 32767;
  std::lock_guard guard(lock);
  for (const auto& [where, adjustment] : undone) {
    const auto found = sets.by_id.find(where.first);
    if (found == sets.by_id.end() || where.second >= found->second->semaphores.size()) continue;
    SemaphoreSet::Semaphore& semaphore = found->second->semaphores[where.second];
    semaphore.value = std::clamp(semaphore.value + adjustment, 0, kHighest);
    semaphore.pid = pid;
    found->second->changed.wake_all();
  }
}

}  // namespace fluyt::guest
