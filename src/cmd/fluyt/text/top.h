#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "base/result.h"

namespace fluyt::cli {

/// One line of `fluyt top`: what a pod or container used between two readings. What is not known is
/// negative.
struct TopRow {
  std::string name;
  std::string space;          // of a pod its namespace, of a container its pod
  double cpu_percent = -1;    // 100: one processor
  int64_t memory_bytes = -1;  // the working set
  double received = -1;       // bytes a second
  double sent = -1;
  int64_t processes = -1;
};

enum class TopOrder { kCpu, kMemory, kNetwork, kName };
/// "cpu", "memory", "network" or "name".
Result<TopOrder> parse_top_order(std::string_view word);

/// What grew from `before` to `now` a second; -1 where it did not grow or no time went by.
double rate(uint64_t before, uint64_t now, int64_t elapsed_ns);

/// The largest first, by name where they are alike; at most `most` lines (0: all) below a line of
/// sums and one of headings.
std::string top_text(std::vector<TopRow> rows, TopOrder order, size_t most, bool of_pods);

}  // namespace fluyt::cli
