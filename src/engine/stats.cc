#include <algorithm>
#include <map>

#include "base/strings.h"
#include "engine/core.h"
#include "sys/file.h"

namespace fluyt::engine {
namespace {

constexpr size_t kMaxCgroupFile = 64UL << 10U;

/// Lines "name number", as memory.stat and cpu.stat have them.
using Table = std::map<std::string, uint64_t, std::less<>>;

Table read_table(const std::string& path) {
  Table table;
  const auto text = sys::read_file(path, kMaxCgroupFile);
  if (!text.ok()) return table;
  for (const auto line : split(*text, '\n')) {
    const auto words = split_words(line);
    if (words.size() != 2) continue;
    if (const auto value = parse_number<uint64_t>(words[1])) table.emplace(words[0], *value);
  }
  return table;
}

std::optional<uint64_t> read_number(const std::string& path) {
  const auto text = sys::read_file(path, kMaxCgroupFile);
  return text.ok() ? parse_number<uint64_t>(trim(*text)) : std::nullopt;
}

std::optional<uint64_t> find(const Table& table, std::string_view name) {
  const auto found = table.find(name);
  return found == table.end() ? std::nullopt : std::optional(found->second);
}

/// What the kernel could take back at once is not the working set.
std::optional<uint64_t> working_set(std::optional<uint64_t> usage,
                                    std::optional<uint64_t> inactive_file) {
  if (!usage) return std::nullopt;
  return *usage - std::min(*usage, inactive_file.value_or(0));
}

void read_v1(const CgroupPaths& cgroup, ContainerStats& stats) {
  for (const auto& [controller, dir] : cgroup.legacy) {
    if (controller == "cpuacct") stats.cpu_usage_ns = read_number(dir + "/cpuacct.usage");
    if (controller == "pids") stats.process_count = read_number(dir + "/pids.current");
    if (controller != "memory") continue;
    const Table memory = read_table(dir + "/memory.stat");
    stats.memory_usage_bytes = read_number(dir + "/memory.usage_in_bytes");
    stats.memory_working_set_bytes =
        working_set(stats.memory_usage_bytes, find(memory, "total_inactive_file"));
    stats.memory_rss_bytes = find(memory, "total_rss");
    stats.page_faults = find(memory, "total_pgfault");
    stats.major_page_faults = find(memory, "total_pgmajfault");
    stats.swap_usage_bytes = find(memory, "total_swap");
    stats.memory_limit_bytes = read_number(dir + "/memory.limit_in_bytes");
  }
}

void read_v2(const CgroupPaths& cgroup, ContainerStats& stats) {
  const std::string& dir = cgroup.unified;
  const Table cpu = read_table(dir + "/cpu.stat");
  const Table memory = read_table(dir + "/memory.stat");
  if (const auto usec = find(cpu, "usage_usec")) stats.cpu_usage_ns = *usec * 1000;
  stats.memory_usage_bytes = read_number(dir + "/memory.current");
  stats.memory_working_set_bytes =
      working_set(stats.memory_usage_bytes, find(memory, "inactive_file"));
  stats.memory_rss_bytes = find(memory, "anon");
  stats.page_faults = find(memory, "pgfault");
  stats.major_page_faults = find(memory, "pgmajfault");
  stats.swap_usage_bytes = read_number(dir + "/memory.swap.current");
  stats.memory_limit_bytes = read_number(dir + "/memory.max");
  stats.process_count = read_number(dir + "/pids.current");
}

/// The rate since the last reading, for each container; the first has none.
std::optional<uint64_t> rate(std::map<std::string, CpuReading>& readings,
                             const ContainerStats& stats) {
  if (!stats.cpu_usage_ns) return std::nullopt;
  const CpuReading now{stats.timestamp, *stats.cpu_usage_ns};
  const auto [place, inserted] = readings.try_emplace(stats.container->id, now);
  const CpuReading last = place->second;
  place->second = now;
  if (inserted || now.at_ns <= last.at_ns || now.usage_ns < last.usage_ns) return std::nullopt;
  const double seconds = static_cast<double>(now.at_ns - last.at_ns) / 1e9;
  return static_cast<uint64_t>(static_cast<double>(now.usage_ns - last.usage_ns) / seconds);
}

ContainerStats read(Engine::Core& core, const ContainerPtr& container) {
  ContainerStats stats;
  stats.container = container;
  stats.timestamp = now_unix_ns();
  if (container->cgroup.legacy.empty()) {
    if (!container->cgroup.unified.empty()) read_v2(container->cgroup, stats);
  } else {
    read_v1(container->cgroup, stats);
  }
  stats.cpu_nano_cores = rate(*core.cpu_readings.lock(), stats);
  const auto usage = core.parts.images->root_usage(container->id);
  if (usage.ok()) {
    stats.writable_layer =
        DiskUsage{now_unix_ns(), usage->mountpoint, usage->used_bytes, usage->inodes};
  }
  return stats;
}

}  // namespace

Result<ContainerStats> Engine::container_stats(const std::string& id) {
  const ContainerEntryPtr entry = FLUYT_TRY(core_->get_container(id));
  return read(*core_, entry->value());
}

std::vector<ContainerStats> Engine::list_container_stats(const ContainerFilter& filter) {
  std::vector<ContainerStats> all;
  for (const auto& container : list_containers(filter)) {
    if (container->state == ContainerState::kRunning) all.push_back(read(*core_, container));
  }
  return all;
}

}  // namespace fluyt::engine
