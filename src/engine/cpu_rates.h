#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>

#include "base/guarded.h"

namespace fluyt::engine {

/// How many cores something keeps busy, out of the readings of its processor time. Two readings
/// less than a second apart make no new rate: several callers that ask in turns would see noise.
/// Thread-safe.
class CpuRates {
 public:
  /// In billionths of a core, over the time since the reading before; the first has none.
  std::optional<uint64_t> update(const std::string& id, int64_t at_ns, uint64_t usage_ns);
  void forget(const std::string& id);

 private:
  struct Reading {
    int64_t at_ns = 0;
    uint64_t usage_ns = 0;
    std::optional<uint64_t> rate;
  };
  Guarded<std::map<std::string, Reading>> readings_;
};

}  // namespace fluyt::engine
