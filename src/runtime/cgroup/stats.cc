#include "runtime/cgroup/stats.h"

#include <algorithm>
#include <cstdlib>

#include "base/strings.h"
#include "runtime/cgroup/files.h"
#include "sys/file.h"

namespace fluyt::runtime::cgroup {

namespace {

using Pairs = std::vector<std::pair<std::string, uint64_t>>;

std::optional<uint64_t> number_in(const std::string& directory, std::string_view file) {
  const auto text = read_value(directory, file);
  if (!text.ok()) return std::nullopt;
  return parse_number<uint64_t>(trim(*text));
}

// v1 shows "no limit" as the highest multiple of a page.
std::optional<uint64_t> legacy_limit_in(const std::string& directory, std::string_view file) {
  const auto value = number_in(directory, file);
  if (!value || *value >= static_cast<uint64_t>(INT64_MAX - (64 << 10))) return std::nullopt;
  return value;
}

/// "name number" lines.
Pairs pairs_in(const std::string& directory, std::string_view file) {
  Pairs out;
  const auto text = read_value(directory, file);
  if (!text.ok()) return out;
  for (const std::string_view line : split(*text, '\n')) {
    const size_t space = line.find(' ');
    if (space == std::string_view::npos) continue;
    if (const auto value = parse_number<uint64_t>(line.substr(space + 1)))
      out.emplace_back(line.substr(0, space), *value);
  }
  return out;
}

uint64_t get(const Pairs& pairs, std::string_view name) {
  for (const auto& [key, value] : pairs) {
    if (key == name) return value;
  }
  return 0;
}

bool has_unified(const CgroupRecord& record, std::string_view file) {
  return !record.unified.empty() && sys::exists(cat(record.unified, "/", file));
}

CpuStats legacy_cpu(const CgroupRecord& record) {
  CpuStats out;
  if (const std::string* accounting = find_legacy(record, "cpuacct")) {
    out.usage_ns = number_in(*accounting, "cpuacct.usage").value_or(0);
    out.user_ns = number_in(*accounting, "cpuacct.usage_user").value_or(0);
    out.system_ns = number_in(*accounting, "cpuacct.usage_sys").value_or(0);
    const auto each = read_value(*accounting, "cpuacct.usage_percpu");
    if (each.ok()) {
      for (const std::string_view word : split_words(trim(*each))) {
        out.per_cpu_ns.push_back(parse_number<uint64_t>(word).value_or(0));
      }
    }
  }
  if (const std::string* cpu = find_legacy(record, "cpu")) {
    const Pairs stat = pairs_in(*cpu, "cpu.stat");
    out.periods = get(stat, "nr_periods");
    out.throttled_periods = get(stat, "nr_throttled");
    out.throttled_ns = get(stat, "throttled_time");
  }
  return out;
}

// "cpu user system" and a line a CPU.
void add_each_cpu(const std::string& directory, CpuStats& out) {
  const auto all = read_value(directory, "cpuacct.usage_all");
  if (!all.ok()) return;
  for (const std::string_view line : split(*all, '\n')) {
    const auto words = split_words(line);
    if (words.size() != 3 || words[0] == "cpu") continue;
    out.per_cpu_user_ns.push_back(parse_number<uint64_t>(words[1]).value_or(0));
    out.per_cpu_system_ns.push_back(parse_number<uint64_t>(words[2]).value_or(0));
  }
}

// "0-3,7"
std::vector<unsigned> list_in(const std::string& directory, std::string_view file) {
  std::vector<unsigned> out;
  const auto text = read_value(directory, file);
  if (!text.ok()) return out;
  for (const std::string_view range : split(trim(*text), ',')) {
    const size_t dash = range.find('-');
    const auto first = parse_number<unsigned>(range.substr(0, dash));
    const auto last =
        dash == std::string_view::npos ? first : parse_number<unsigned>(range.substr(dash + 1));
    if (!first || !last) continue;
    for (unsigned number = *first; number <= *last; ++number) out.push_back(number);
  }
  return out;
}

std::optional<CpusetStats> cpuset_of(const CgroupRecord& record) {
  const std::string* legacy = find_legacy(record, "cpuset");
  if (legacy == nullptr) {
    if (!has_unified(record, "cpuset.cpus.effective")) return std::nullopt;
    return CpusetStats{.cpus = list_in(record.unified, "cpuset.cpus.effective"),
                       .mems = list_in(record.unified, "cpuset.mems.effective")};
  }
  const auto flag = [&](std::string_view file) { return number_in(*legacy, file).value_or(0); };
  const auto level = read_value(*legacy, "cpuset.sched_relax_domain_level");
  return CpusetStats{.cpus = list_in(*legacy, "cpuset.effective_cpus"),
                     .mems = list_in(*legacy, "cpuset.effective_mems"),
                     .cpu_exclusive = flag("cpuset.cpu_exclusive"),
                     .mem_hardwall = flag("cpuset.mem_hardwall"),
                     .mem_exclusive = flag("cpuset.mem_exclusive"),
                     .memory_migrate = flag("cpuset.memory_migrate"),
                     .memory_spread_page = flag("cpuset.memory_spread_page"),
                     .memory_spread_slab = flag("cpuset.memory_spread_slab"),
                     .memory_pressure = flag("cpuset.memory_pressure"),
                     .sched_load_balance = flag("cpuset.sched_load_balance"),
                     .sched_relax_domain_level =
                         level.ok() ? parse_number<int64_t>(trim(*level)).value_or(0) : int64_t{0}};
}

std::optional<CpuStats> cpu_of(const CgroupRecord& record) {
  if (find_legacy(record, "cpuacct") != nullptr || find_legacy(record, "cpu") != nullptr)
    return legacy_cpu(record);
  if (record.unified.empty()) return std::nullopt;
  const Pairs stat = pairs_in(record.unified, "cpu.stat");
  if (stat.empty()) return std::nullopt;
  return CpuStats{.usage_ns = get(stat, "usage_usec") * 1000,
                  .user_ns = get(stat, "user_usec") * 1000,
                  .system_ns = get(stat, "system_usec") * 1000,
                  .periods = get(stat, "nr_periods"),
                  .throttled_periods = get(stat, "nr_throttled"),
                  .throttled_ns = get(stat, "throttled_usec") * 1000,
                  .per_cpu_ns = {},
                  .per_cpu_user_ns = {},
                  .per_cpu_system_ns = {}};
}

std::optional<MemoryCounter> counter_in(const std::string& directory, std::string_view name) {
  const auto usage = number_in(directory, cat(name, ".usage_in_bytes"));
  if (!usage) return std::nullopt;
  return MemoryCounter{
      .limit_bytes = legacy_limit_in(directory, cat(name, ".limit_in_bytes")),
      .usage_bytes = *usage,
      .max_usage_bytes = number_in(directory, cat(name, ".max_usage_in_bytes")).value_or(0),
      .limit_hits = number_in(directory, cat(name, ".failcnt")).value_or(0)};
}

uint64_t less(uint64_t a, uint64_t b) { return a > b ? a - b : 0; }

std::optional<MemoryStats> legacy_memory(const std::string& directory) {
  MemoryStats out;
  const auto usage = number_in(directory, "memory.usage_in_bytes");
  if (!usage) return std::nullopt;
  out.usage_bytes = *usage;
  out.details = pairs_in(directory, "memory.stat");
  out.max_usage_bytes = number_in(directory, "memory.max_usage_in_bytes");
  out.limit_bytes = legacy_limit_in(directory, "memory.limit_in_bytes");
  out.working_set_bytes = less(out.usage_bytes, get(out.details, "total_inactive_file"));
  out.rss_bytes = get(out.details, "total_rss");
  out.cache_bytes = get(out.details, "total_cache");
  out.page_faults = get(out.details, "total_pgfault");
  out.major_page_faults = get(out.details, "total_pgmajfault");
  if (const auto both = number_in(directory, "memory.memsw.usage_in_bytes")) {
    out.swap_usage_bytes = less(*both, out.usage_bytes);
  }
  const auto both_limit = legacy_limit_in(directory, "memory.memsw.limit_in_bytes");
  if (both_limit && out.limit_bytes) out.swap_limit_bytes = less(*both_limit, *out.limit_bytes);
  out.limit_hits = number_in(directory, "memory.failcnt").value_or(0);
  out.oom_kills = get(pairs_in(directory, "memory.oom_control"), "oom_kill");
  out.kernel_bytes = number_in(directory, "memory.kmem.usage_in_bytes");
  return out;
}

// One figure since Linux 5.18; before it, what that is made of.
std::optional<uint64_t> unified_kernel(const Pairs& stat) {
  if (stat.empty()) return std::nullopt;
  for (const auto& [key, value] : stat) {
    if (key == "kernel") return value;
  }
  uint64_t sum = 0;
  for (const std::string_view part : {"kernel_stack", "pagetables", "percpu", "sock", "slab"}) {
    sum += get(stat, part);
  }
  return sum;
}

std::optional<MemoryStats> unified_memory(const std::string& directory) {
  MemoryStats out;
  const auto usage = number_in(directory, "memory.current");
  if (!usage) return std::nullopt;
  out.usage_bytes = *usage;
  out.details = pairs_in(directory, "memory.stat");
  out.max_usage_bytes = number_in(directory, "memory.peak");
  out.limit_bytes = number_in(directory, "memory.max");
  out.working_set_bytes = less(out.usage_bytes, get(out.details, "inactive_file"));
  out.rss_bytes = get(out.details, "anon");
  out.cache_bytes = get(out.details, "file");
  out.page_faults = get(out.details, "pgfault");
  out.major_page_faults = get(out.details, "pgmajfault");
  out.swap_usage_bytes = number_in(directory, "memory.swap.current");
  out.swap_limit_bytes = number_in(directory, "memory.swap.max");
  const Pairs events = pairs_in(directory, "memory.events");
  out.kernel_bytes = unified_kernel(out.details);
  out.limit_hits = get(events, "max");
  out.oom_kills = get(events, "oom_kill");
  return out;
}

std::optional<MemoryStats> memory_of(const CgroupRecord& record) {
  if (const std::string* directory = find_legacy(record, "memory"))
    return legacy_memory(*directory);
  if (record.unified.empty()) return std::nullopt;
  return unified_memory(record.unified);
}

std::optional<PidsStats> pids_of(const CgroupRecord& record) {
  const std::string* legacy = find_legacy(record, "pids");
  if (legacy == nullptr && record.unified.empty()) return std::nullopt;
  const std::string& directory = legacy != nullptr ? *legacy : record.unified;
  const auto current = number_in(directory, "pids.current");
  if (!current) return std::nullopt;
  return PidsStats{.current = *current, .limit = number_in(directory, "pids.max")};
}

IoStats& device_in(std::vector<IoStats>& list, std::string_view numbers) {
  const auto pieces = split(numbers, ':');
  const int64_t major = parse_number<int64_t>(pieces[0]).value_or(0);
  const int64_t minor = pieces.size() > 1 ? parse_number<int64_t>(pieces[1]).value_or(0) : 0;
  for (IoStats& one : list) {
    if (one.major == major && one.minor == minor) return one;
  }
  list.push_back({.major = major, .minor = minor});
  return list.back();
}

// "8:0 Read 4096" lines.
void add_legacy_io(std::vector<IoStats>& out, const std::string& directory, std::string_view file,
                   uint64_t IoStats::* read, uint64_t IoStats::* write) {
  const auto text = read_value(directory, file);
  if (!text.ok()) return;
  for (const std::string_view line : split(*text, '\n')) {
    const auto words = split_words(line);
    if (words.size() != 3) continue;
    const uint64_t value = parse_number<uint64_t>(words[2]).value_or(0);
    if (words[1] == "Read") device_in(out, words[0]).*read = value;
    if (words[1] == "Write") device_in(out, words[0]).*write = value;
  }
}

// "8:0 rbytes=1 wbytes=2 rios=3 wios=4 ..." lines.
std::vector<IoStats> unified_io(const std::string& directory) {
  std::vector<IoStats> out;
  const auto text = read_value(directory, "io.stat");
  if (!text.ok()) return out;
  for (const std::string_view line : split(*text, '\n')) {
    const auto words = split_words(line);
    if (words.size() < 2) continue;
    IoStats& device = device_in(out, words[0]);
    for (size_t i = 1; i < words.size(); ++i) {
      const size_t equals = words[i].find('=');
      if (equals == std::string_view::npos) continue;
      const std::string_view key = words[i].substr(0, equals);
      const uint64_t value = parse_number<uint64_t>(words[i].substr(equals + 1)).value_or(0);
      if (key == "rbytes") device.read_bytes = value;
      if (key == "wbytes") device.written_bytes = value;
      if (key == "rios") device.reads = value;
      if (key == "wios") device.writes = value;
    }
  }
  return out;
}

std::vector<IoStats> io_of(const CgroupRecord& record) {
  const std::string* directory = find_legacy(record, "blkio");
  if (directory == nullptr)
    return record.unified.empty() ? std::vector<IoStats>() : unified_io(record.unified);
  // BFQ counts where it schedules, the throttling layer everywhere: what the first does not know is
  // asked of the second.
  for (const std::string_view who : {"bfq", "throttle"}) {
    std::vector<IoStats> out;
    add_legacy_io(out, *directory, cat("blkio.", who, ".io_service_bytes_recursive"),
                  &IoStats::read_bytes, &IoStats::written_bytes);
    add_legacy_io(out, *directory, cat("blkio.", who, ".io_serviced_recursive"), &IoStats::reads,
                  &IoStats::writes);
    if (!out.empty()) return out;
  }
  return {};
}

std::vector<HugetlbStats> hugetlb_of(const CgroupRecord& record) {
  std::vector<HugetlbStats> out;
  const std::string* legacy = find_legacy(record, "hugetlb");
  if (legacy == nullptr && record.unified.empty()) return out;
  const std::string& directory = legacy != nullptr ? *legacy : record.unified;
  const std::string_view suffix = legacy != nullptr ? ".usage_in_bytes" : ".current";
  const auto names = sys::list_dir(directory);
  if (!names.ok()) return out;
  for (const std::string& name : *names) {
    // hugetlb.2MB.current, but not hugetlb.2MB.rsvd.current.
    if (!name.starts_with("hugetlb.") || !name.ends_with(suffix)) continue;
    const std::string size = name.substr(8, name.size() - 8 - suffix.size());
    if (size.find('.') != std::string::npos) continue;
    HugetlbStats one{.page_size = size, .usage_bytes = number_in(directory, name).value_or(0)};
    if (legacy != nullptr) {
      one.max_usage_bytes = number_in(directory, cat("hugetlb.", size, ".max_usage_in_bytes"));
      one.limit_hits = number_in(directory, cat("hugetlb.", size, ".failcnt")).value_or(0);
    } else {
      one.limit_hits = get(pairs_in(directory, cat("hugetlb.", size, ".events")), "max");
    }
    out.push_back(std::move(one));
  }
  return out;
}

// "some avg10=0.00 avg60=0.00 avg300=0.00 total=0"
Pressure::Line pressure_line(const std::vector<std::string_view>& words) {
  Pressure::Line line;
  for (const std::string_view word : words) {
    const size_t equals = word.find('=');
    if (equals == std::string_view::npos) continue;
    const std::string_view key = word.substr(0, equals);
    const std::string value(word.substr(equals + 1));
    if (key == "avg10") line.avg10 = strtod(value.c_str(), nullptr);
    if (key == "avg60") line.avg60 = strtod(value.c_str(), nullptr);
    if (key == "avg300") line.avg300 = strtod(value.c_str(), nullptr);
    if (key == "total") line.total_us = parse_number<uint64_t>(value).value_or(0);
  }
  return line;
}

std::optional<Pressure> pressure_of(const CgroupRecord& record, std::string_view file) {
  if (record.unified.empty()) return std::nullopt;
  const auto text = read_value(record.unified, file);
  if (!text.ok()) return std::nullopt;  // a kernel without pressure stall information
  Pressure out;
  for (const std::string_view line : split(*text, '\n')) {
    const auto words = split_words(line);
    if (words.empty()) continue;
    if (words[0] == "some") out.some = pressure_line(words);
    if (words[0] == "full") out.full = pressure_line(words);
  }
  return out;
}

Result<> check_present(const CgroupRecord& record) {
  const auto directories = all_directories(record);
  for (const std::string& directory : directories) {
    if (sys::exists(directory)) return {};
  }
  return Error(Code::kNotFound,
               cat("cgroup ", quote(directories.empty() ? "" : directories.front(), 1024),
                   ": is not there"));
}

}  // namespace

Result<Stats> brief_stats(const CgroupRecord& record) {
  FLUYT_TRY(check_present(record));
  Stats out;
  out.cpu = cpu_of(record);
  out.memory = memory_of(record);
  out.pids = pids_of(record);
  out.cpu_pressure = pressure_of(record, "cpu.pressure");
  out.memory_pressure = pressure_of(record, "memory.pressure");
  out.io_pressure = pressure_of(record, "io.pressure");
  return out;
}

Result<Stats> stats(const CgroupRecord& record) {
  Stats out = FLUYT_TRY(brief_stats(record));
  if (const std::string* accounting = find_legacy(record, "cpuacct"); accounting && out.cpu)
    add_each_cpu(*accounting, *out.cpu);
  out.cpuset = cpuset_of(record);
  if (const std::string* memory = find_legacy(record, "memory"); memory && out.memory) {
    out.memory->kernel = counter_in(*memory, "memory.kmem");
    out.memory->kernel_tcp = counter_in(*memory, "memory.kmem.tcp");
    out.memory->memory_and_swap = counter_in(*memory, "memory.memsw");
  }
  out.io = io_of(record);
  out.hugetlb = hugetlb_of(record);
  return out;
}

Result<uint64_t> oom_kills(const CgroupRecord& record) {
  if (const std::string* legacy = find_legacy(record, "memory")) {
    return get(pairs_in(*legacy, "memory.oom_control"), "oom_kill");
  }
  if (!has_unified(record, "memory.events")) return 0;
  return get(pairs_in(record.unified, "memory.events"), "oom_kill");
}

}  // namespace fluyt::runtime::cgroup
