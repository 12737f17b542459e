#pragma once

#include <array>
#include <atomic>
#include <cstdint>

namespace fluyt::daemon {

/// How long something took, counted by size. Any thread, no lock.
class Histogram {
 public:
  /// Upper bounds in seconds; what is longer is in none of them.
  static constexpr std::array<double, 16> kBounds = {
      0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 120};
  struct Values {
    std::array<uint64_t, kBounds.size()> up_to{};  // cumulative, as they are told
    uint64_t count = 0;
    double sum_seconds = 0;
  };

  void observe_ns(int64_t ns);
  Values values() const;

 private:
  std::array<std::atomic<uint64_t>, kBounds.size() + 1> buckets_{};  // the last: beyond all
  std::atomic<uint64_t> sum_ns_{0};
};

}  // namespace fluyt::daemon
