#include "cmd/fluytd/metrics/histogram.h"

#include <algorithm>

namespace fluyt::daemon {
namespace {

constexpr double kNsASecond = 1e9;

}  // namespace

void Histogram::observe_ns(int64_t ns) {
  const uint64_t took = ns > 0 ? static_cast<uint64_t>(ns) : 0;
  const double seconds = static_cast<double>(took) / kNsASecond;
  const auto* const bound = std::lower_bound(kBounds.begin(), kBounds.end(), seconds);
  ++buckets_[static_cast<size_t>(bound - kBounds.begin())];
  sum_ns_ += took;
}

Histogram::Values Histogram::values() const {
  Values out;
  for (size_t i = 0; i < kBounds.size(); ++i) {
    out.count += buckets_[i];
    out.up_to[i] = out.count;
  }
  out.count += buckets_.back();
  out.sum_seconds = static_cast<double>(sum_ns_) / kNsASecond;
  return out;
}

}  // namespace fluyt::daemon
