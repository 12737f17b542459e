#include "engine/layer_usage.h"

#include <algorithm>
#include <chrono>

namespace fluyt::engine {
namespace {

constexpr int64_t kIntervalNs = 10'000'000'000;
constexpr int64_t kAgainNs = 1'000'000'000;  // after an incomplete walk
constexpr int kMaxAgain = 3;
constexpr int64_t kShare = 20;  // a walk is paid for by twenty times its length of rest

}  // namespace

LayerFinding after_walk(LayerFinding before, std::optional<DiskUsage> found, int64_t began,
                        int64_t ended) {
  LayerFinding after = std::move(before);
  int64_t rest = kIntervalNs;
  if (found && found->complete) {
    after.incomplete = 0;
  } else if (found) {
    if (++after.incomplete <= kMaxAgain) rest = kAgainNs;
    if (after.last) {
      found->used_bytes = std::max(found->used_bytes, after.last->used_bytes);
      found->inodes = std::max(found->inodes, after.last->inodes);
    }
  }
  after.next_at = ended + std::max(rest, (ended - began) * kShare);
  if (found) after.last = std::move(found);
  return after;
}

std::map<std::string, DiskUsage> LayerUsage::get(const std::vector<std::string>& ids,
                                                 Deadline deadline) {
  std::unique_lock lock(mutex_);
  const int64_t now = now_boot_ns();
  for (const std::string& id : ids) {
    Slot& slot = slots_[id];
    if (slot.queued || now < slot.finding.next_at) continue;
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
    if (slot != slots_.end() && slot->second.finding.last)
      out.emplace(id, *slot->second.finding.last);
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
  if (!found.ok() && found.error().code() == Code::kNotFound) {
    slots_.erase(slot);  // its container has gone, and whoever asked was late
  } else {
    Slot& now = slot->second;
    now.queued = false;
    now.tried = true;
    now.finding =
        after_walk(std::move(now.finding),
                   found.ok() ? std::optional(std::move(*found)) : std::nullopt, began, ended);
  }
  measured_.notify_all();
}

}  // namespace fluyt::engine
