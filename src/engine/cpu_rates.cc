#include "engine/cpu_rates.h"

namespace fluyt::engine {
namespace {

constexpr int64_t kShortestNs = 1'000'000'000;

}  // namespace

std::optional<uint64_t> CpuRates::update(const std::string& id, int64_t at_ns, uint64_t usage_ns) {
  auto readings = readings_.lock();
  const auto [place, inserted] = readings->try_emplace(id, Reading{at_ns, usage_ns, {}});
  Reading& last = place->second;
  if (inserted) return std::nullopt;
  // The clock was set back, or the cgroup is another one of the same name: begin anew.
  if (at_ns < last.at_ns || usage_ns < last.usage_ns) {
    last = Reading{at_ns, usage_ns, {}};
    return std::nullopt;
  }
  if (at_ns - last.at_ns < kShortestNs) return last.rate;
  const double seconds = static_cast<double>(at_ns - last.at_ns) / 1e9;
  const auto rate = static_cast<uint64_t>(static_cast<double>(usage_ns - last.usage_ns) / seconds);
  last = Reading{at_ns, usage_ns, rate};
  return rate;
}

void CpuRates::forget(const std::string& id) { readings_.lock()->erase(id); }

}  // namespace fluyt::engine
