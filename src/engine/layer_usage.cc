#include "engine/layer_usage.h"

#include <algorithm>
#include <chrono>

namespace fluyt::engine {
namespace {

constexpr int64_t kIntervalNs = 10'000'000'000;
constexpr int64_t kShare = 20;  // a walk is paid for by twenty times its length of rest

}  // namespace

std::map<std::string, DiskUsage> LayerUsage::get(const std::vector<std::string>& ids,
                                                 Deadline deadline) {
  std::unique_lock lock(mutex_);
  const int64_t now = now_boot_ns();
  for (const std::string& id : ids) {
    Slot& slot = slots_[id];
    if (slot.queued || now < slot.next_at) continue;
    slot.queued = true;
    worker_.post([this, id] { measure(id); });
  }
  const auto all_tried = [&] {
    return std::ranges::all_of(ids, [&](const std::string& id) {
      const auto slot = slots_.find(id);
      return slot == slots_.end() || slot->second.tried;
    });
  };
  measured_.wait_for(lock, std::chrono::milliseconds(deadline.poll_timeout_ms()), all_tried);
  std::map<std::string, DiskUsage> out;
  for (const std::string& id : ids) {
    const auto slot = slots_.find(id);
    if (slot != slots_.end() && slot->second.last) out.emplace(id, *slot->second.last);
  }
  return out;
}

void LayerUsage::forget(const std::string& id) {
  const std::scoped_lock lock(mutex_);
  slots_.erase(id);
}

void LayerUsage::measure(const std::string& id) {
  const int64_t began = now_boot_ns();
  auto found = measure_(id);
  const int64_t ended = now_boot_ns();
  const std::scoped_lock lock(mutex_);
  const auto slot = slots_.find(id);
  if (slot == slots_.end()) return;  // removed meanwhile
  slot->second.queued = false;
  slot->second.tried = true;
  slot->second.next_at = ended + std::max(kIntervalNs, (ended - began) * kShare);
  if (found.ok()) {
    slot->second.last = std::move(*found);
  } else if (found.error().code() == Code::kNotFound) {
    slots_.erase(slot);  // its container has gone, and whoever asked was late
  }
  measured_.notify_all();
}

}  // namespace fluyt::engine
