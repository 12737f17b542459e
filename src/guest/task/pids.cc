#include "guest/task/pids.h"

#include <cerrno>

namespace fluyt::guest {

int32_t PidSpace::number_of(int32_t id) const {
  if (!above) return id;
  std::lock_guard lock(mutex_);
  const auto found = by_id_.find(id);
  return found == by_id_.end() ? 0 : found->second;
}

int32_t PidSpace::id_of(int32_t number) const {
  if (!above) return number > 0 ? number : 0;
  std::lock_guard lock(mutex_);
  const auto found = by_number_.find(number);
  return found == by_number_.end() ? 0 : found->second;
}

bool PidSpace::is_within(const PidSpace& other) const {
  const PidSpace* at = this;
  while (at != nullptr && at != &other) at = at->above.get();
  return at != nullptr;
}

ErrnoOr<int32_t> PidSpace::admit(int32_t id) {
  constexpr int32_t kMost = 4194304;
  constexpr int32_t kReserved = 300;  // Linux does not go back to the first of them
  if (!above) return id;
  std::lock_guard lock(mutex_);
  for (int32_t tries = 0; tries < kMost; ++tries) {
    last_ = last_ + 1 >= kMost ? kReserved : last_ + 1;
    if (by_number_.contains(last_)) continue;
    by_id_[id] = last_;
    by_number_[last_] = id;
    return last_;
  }
  return Errno(EAGAIN);
}

void PidSpace::forget(int32_t id) {
  std::lock_guard lock(mutex_);
  const auto found = by_id_.find(id);
  if (found == by_id_.end()) return;
  by_number_.erase(found->second);
  by_id_.erase(found);
}

}  // namespace fluyt::guest
