#include "engine/usage.h"

#include "engine/cgroup_parent.h"

namespace fluyt::engine {
namespace {

namespace cgroup = runtime::cgroup;

std::optional<Pressure> pressure_of(const std::optional<cgroup::Pressure>& from) {
  if (!from) return std::nullopt;
  const auto line = [](const cgroup::Pressure::Line& one) {
    return Pressure::Line{one.avg10, one.avg60, one.avg300, one.total_us * 1000};
  };
  return Pressure{line(from->some), line(from->full)};
}

void add(std::optional<uint64_t>& to, std::optional<uint64_t> more) {
  if (more) to = to.value_or(0) + *more;
}

}  // namespace

runtime::CgroupRecord record_of(const CgroupPaths& paths) {
  return {.unified = paths.unified, .legacy = paths.legacy, .unit = {}};
}

void leave_out_holder(const CgroupPaths& paths, cgroup::Stats& stats) {
  if (paths.holder != 0 && stats.pids && stats.pids->current > 0) --stats.pids->current;
}

Usage usage_of(const cgroup::Stats& stats, int64_t now_unix_ns) {
  Usage out;
  out.timestamp = now_unix_ns;
  if (stats.cpu) out.cpu_usage_ns = stats.cpu->usage_ns;
  if (stats.memory) {
    const cgroup::MemoryStats& memory = *stats.memory;
    out.memory_usage_bytes = memory.usage_bytes;
    out.memory_working_set_bytes = memory.working_set_bytes;
    out.memory_rss_bytes = memory.rss_bytes;
    out.memory_limit_bytes = memory.limit_bytes;
    out.page_faults = memory.page_faults;
    out.major_page_faults = memory.major_page_faults;
    out.swap_usage_bytes = memory.swap_usage_bytes;
    if (memory.swap_usage_bytes && memory.swap_limit_bytes) {
      const uint64_t limit = *memory.swap_limit_bytes;
      const uint64_t used = *memory.swap_usage_bytes;
      out.swap_available_bytes = limit > used ? limit - used : 0;
    }
  }
  if (stats.pids) out.process_count = stats.pids->current;
  out.cpu_pressure = pressure_of(stats.cpu_pressure);
  out.memory_pressure = pressure_of(stats.memory_pressure);
  out.io_pressure = pressure_of(stats.io_pressure);
  return out;
}

Usage sum_of(const std::vector<ContainerStats>& containers, int64_t now_unix_ns) {
  Usage out;
  out.timestamp = now_unix_ns;
  for (const ContainerStats& one : containers) {
    const Usage& usage = one.usage;
    add(out.cpu_usage_ns, usage.cpu_usage_ns);
    add(out.memory_usage_bytes, usage.memory_usage_bytes);
    add(out.memory_working_set_bytes, usage.memory_working_set_bytes);
    add(out.memory_rss_bytes, usage.memory_rss_bytes);
    add(out.page_faults, usage.page_faults);
    add(out.major_page_faults, usage.major_page_faults);
    add(out.swap_usage_bytes, usage.swap_usage_bytes);
    add(out.process_count, usage.process_count);
  }
  return out;
}

Result<std::optional<runtime::CgroupRecord>> pod_cgroup(const cgroup::Host& host,
                                                        const Sandbox& sandbox) {
  const std::string& parent = sandbox.config.cgroup_parent;
  if (parent.empty()) return std::optional<runtime::CgroupRecord>();
  const std::string directory = FLUYT_TRY(parent_directory(sandbox.cgroup_driver, parent));
  return std::optional(FLUYT_TRY(cgroup::locate(host, directory, "")));
}

}  // namespace fluyt::engine
