#include "cmd/fluyt/text/top.h"

#include <algorithm>
#include <array>
#include <cstdio>
#include <string_view>
#include <tuple>

#include "base/strings.h"
#include "cmd/fluyt/text/table.h"
#include "cmd/fluyt/text/units.h"

namespace fluyt::cli {

namespace {

std::string percent(double value) {
  if (value < 0) return "-";
  std::array<char, 32> text;
  (void)std::snprintf(text.data(), text.size(), "%.1f%%", value);
  return text.data();
}

std::string memory(int64_t bytes) {
  return bytes < 0 ? "-" : human_memory(static_cast<uint64_t>(bytes));
}

std::string a_second(double bytes) {
  return bytes < 0 ? "-" : cat(human_size(static_cast<uint64_t>(bytes)), "/s");
}

double size_in(const TopRow& row, TopOrder order) {
  switch (order) {
    case TopOrder::kCpu:
      return row.cpu_percent;
    case TopOrder::kMemory:
      return static_cast<double>(row.memory_bytes);
    case TopOrder::kNetwork:
      return std::max(row.received, 0.0) + std::max(row.sent, 0.0);
    case TopOrder::kName:
      break;
  }
  return 0;
}

}  // namespace

Result<TopOrder> parse_top_order(std::string_view word) {
  if (word == "cpu") return TopOrder::kCpu;
  if (word == "memory") return TopOrder::kMemory;
  if (word == "network") return TopOrder::kNetwork;
  if (word == "name") return TopOrder::kName;
  return Error(Code::kInvalidArgument,
               cat("--sort: ", quote(word), ": expected cpu, memory, network or name"));
}

double rate(uint64_t before, uint64_t now, int64_t elapsed_ns) {
  if (elapsed_ns <= 0 || now < before) return -1;
  return static_cast<double>(now - before) * 1e9 / static_cast<double>(elapsed_ns);
}

std::string top_text(std::vector<TopRow> rows, TopOrder order, size_t most, bool of_pods) {
  std::ranges::sort(rows, [&](const TopRow& a, const TopRow& b) {
    const double one = size_in(a, order);
    const double other = size_in(b, order);
    if (one != other) return one > other;
    return std::tie(a.space, a.name) < std::tie(b.space, b.name);
  });
  double cpu = 0;
  int64_t bytes = 0;
  for (const TopRow& row : rows) {
    cpu += std::max(row.cpu_percent, 0.0);
    bytes += std::max<int64_t>(row.memory_bytes, 0);
  }
  const std::string_view what = of_pods ? "pod" : "container";
  std::string out = cat(rows.size(), " ", what, rows.size() == 1 ? "" : "s", ", CPU ", percent(cpu),
                        ", memory ", memory(bytes), "\n\n");
  Table table(
      {"NAME", of_pods ? "NAMESPACE" : "POD", "CPU", "MEMORY", "RECEIVED", "SENT", "PROCESSES"});
  size_t shown = 0;
  for (const TopRow& row : rows) {
    if (most != 0 && shown++ >= most) break;
    table.add({row.name, row.space, percent(row.cpu_percent), memory(row.memory_bytes),
               a_second(row.received), a_second(row.sent),
               row.processes < 0 ? "-" : std::to_string(row.processes)});
  }
  return out + table.text();
}

}  // namespace fluyt::cli
