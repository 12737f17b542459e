#include "engine/metric_table.h"

#include <optional>
#include <string_view>

#include "base/strings.h"
#include "sys/file.h"

namespace fluyt::engine {
namespace {

namespace cgroup = runtime::cgroup;
using Labels = std::vector<std::string>;

constexpr uint64_t kNsPerSecond = 1'000'000'000;
constexpr uint64_t kUsPerSecond = 1'000'000;
constexpr size_t kMaxUevent = 4096;
// The kernel's own, of a cgroup that was told nothing.
constexpr uint64_t kDefaultShares = 1024;
constexpr uint64_t kDefaultPeriodUs = 100'000;

/// As the kubelet's own cAdvisor labels them: `id` is the cgroup, `name` the container's id.
const Labels kBaseKeys = {"id", "name", "image", "namespace", "pod", "container"};
/// What engines with a process for the pod call it where a container's name is wanted.
constexpr const char* kPodContainer = "POD";

/// Takes a row's values, each with the values of the row's own labels.
class Values {
 public:
  Values(const MetricDescriptor& descriptor, const Labels& base, std::vector<Metric>& out)
      : descriptor_(descriptor), base_(base), out_(out) {}
  void add(uint64_t value, const Labels& own = {}) {
    Metric& metric = out_.emplace_back();
    metric.descriptor = &descriptor_;
    metric.label_values = base_;
    metric.label_values.insert(metric.label_values.end(), own.begin(), own.end());
    metric.value = value;
  }
  void add(const std::optional<uint64_t>& value) {
    if (value) add(*value);
  }

 private:
  const MetricDescriptor& descriptor_;
  const Labels& base_;
  std::vector<Metric>& out_;
};

using ReadContainer = void (*)(const ContainerSource&, Values&);
using ReadInterface = uint64_t InterfaceUsage::*;

struct Row {
  std::string_view name;
  std::string_view help;
  MetricType type;
  Labels own_keys;
  ReadContainer container = nullptr;
  ReadInterface interface = nullptr;
};

constexpr MetricType kCounter = MetricType::kCounter;
constexpr MetricType kGauge = MetricType::kGauge;

// Readers, by what they read ---------------------------------------------------------------------

template <uint64_t cgroup::CpuStats::* kField, uint64_t kUnit = 1>
void cpu(const ContainerSource& source, Values& values) {
  if (source.stats.cpu) values.add((*source.stats.cpu).*kField / kUnit);
}

void cpu_usage(const ContainerSource& source, Values& values) {
  if (source.stats.cpu) values.add(source.stats.cpu->usage_ns / kNsPerSecond, {"total"});
}

template <uint64_t cgroup::MemoryStats::* kField>
void memory(const ContainerSource& source, Values& values) {
  if (source.stats.memory) values.add((*source.stats.memory).*kField);
}

template <std::optional<uint64_t> cgroup::MemoryStats::* kField>
void some_memory(const ContainerSource& source, Values& values) {
  if (source.stats.memory) values.add((*source.stats.memory).*kField);
}

std::optional<uint64_t> detail(const cgroup::MemoryStats& memory, std::string_view name) {
  for (const auto& [key, value] : memory.details) {
    if (key == name) return value;
  }
  return std::nullopt;
}

/// memory.stat of the cgroup with those below: on v1 that has a name of its own.
std::optional<uint64_t> deep_detail(const cgroup::MemoryStats& memory, std::string_view name) {
  if (const auto deep = detail(memory, cat("total_", name))) return deep;
  return detail(memory, name);
}

void mapped_file(const ContainerSource& source, Values& values) {
  if (!source.stats.memory) return;
  const auto unified = detail(*source.stats.memory, "file_mapped");
  values.add(unified ? unified : deep_detail(*source.stats.memory, "mapped_file"));
}

/// A host without swap uses none.
void swap_usage(const ContainerSource& source, Values& values) {
  if (source.stats.memory) values.add(source.stats.memory->swap_usage_bytes.value_or(0));
}

void memory_failures(const ContainerSource& source, Values& values) {
  if (!source.stats.memory) return;
  for (const char* kind : {"pgfault", "pgmajfault"}) {
    if (const auto own = detail(*source.stats.memory, kind)) values.add(*own, {kind, "container"});
    if (const auto deep = deep_detail(*source.stats.memory, kind)) {
      values.add(*deep, {kind, "hierarchy"});
    }
  }
}

template <std::optional<cgroup::Pressure> cgroup::Stats::* kResource,
          cgroup::Pressure::Line cgroup::Pressure::* kLine>
void pressure(const ContainerSource& source, Values& values) {
  const auto& resource = source.stats.*kResource;
  if (resource) values.add(((*resource).*kLine).total_us / kUsPerSecond);
}

template <uint64_t cgroup::IoStats::* kField>
void io(const ContainerSource& source, Values& values) {
  for (size_t i = 0; i < source.stats.io.size(); ++i) {
    values.add(source.stats.io[i].*kField, {source.block_devices[i]});
  }
}

void io_bytes(const ContainerSource& source, Values& values) {
  for (size_t i = 0; i < source.stats.io.size(); ++i) {
    const cgroup::IoStats& one = source.stats.io[i];
    Labels labels = {source.block_devices[i], cat(one.major), cat(one.minor), "Read"};
    values.add(one.read_bytes, labels);
    labels.back() = "Write";
    values.add(one.written_bytes, labels);
  }
}

template <uint64_t FsTotals::* kField>
void file_system(const ContainerSource& source, Values& values) {
  if (source.layer != nullptr && source.layer->file_system) {
    const FsTotals& totals = *source.layer->file_system;
    values.add(totals.*kField, {totals.device});
  }
}

void layer_bytes(const ContainerSource& source, Values& values) {
  if (source.layer != nullptr && source.layer->file_system) {
    values.add(source.layer->used_bytes, {source.layer->file_system->device});
  }
}

void hugetlb_usage(const ContainerSource& source, Values& values) {
  for (const auto& one : source.stats.hugetlb) values.add(one.usage_bytes, {one.page_size});
}

void hugetlb_max_usage(const ContainerSource& source, Values& values) {
  for (const auto& one : source.stats.hugetlb) {
    if (one.max_usage_bytes) values.add(*one.max_usage_bytes, {one.page_size});
  }
}

void threads(const ContainerSource& source, Values& values) {
  if (source.stats.pids) values.add(source.stats.pids->current);  // the kernel counts tasks
}

void threads_max(const ContainerSource& source, Values& values) {
  if (source.stats.pids) values.add(source.stats.pids->limit.value_or(0));
}

void processes(const ContainerSource& source, Values& values) {
  values.add(source.processes.processes);
}

template <std::optional<uint64_t> ProcessTotals::* kField>
void process_total(const ContainerSource& source, Values& values) {
  values.add(source.processes.*kField);
}

void ulimits(const ContainerSource& source, Values& values) {
  if (source.processes.max_open_files) {
    values.add(*source.processes.max_open_files, {"max_open_files"});
  }
}

/// What was asked for; not said and "unlimited" are 0, as cAdvisor has it.
template <int64_t Resources::* kField, uint64_t kUnsaid = 0>
void asked(const ContainerSource& source, Values& values) {
  const int64_t value = source.container.config.resources.*kField;
  values.add(value > 0 ? static_cast<uint64_t>(value) : kUnsaid);
}

void asked_quota(const ContainerSource& source, Values& values) {
  const int64_t quota = source.container.config.resources.cpu_quota;
  if (quota > 0) values.add(static_cast<uint64_t>(quota));
}

void asked_reservation(const ContainerSource& source, Values& values) {
  const auto& unified = source.container.config.resources.unified;
  const auto found = unified.find("memory.min");
  values.add(found == unified.end() ? 0 : parse_number<uint64_t>(found->second).value_or(0));
}

void last_seen(const ContainerSource& source, Values& values) {
  values.add(static_cast<uint64_t>(source.now_unix_ns) / kNsPerSecond);
}

void start_time(const ContainerSource& source, Values& values) {
  values.add(static_cast<uint64_t>(source.container.started_at) / kNsPerSecond);
}

// The table --------------------------------------------------------------------------------------

using Cpu = cgroup::CpuStats;
using Memory = cgroup::MemoryStats;
using Stats = cgroup::Stats;
using Stall = cgroup::Pressure;

const std::vector<Row>& rows() {
  static const std::vector<Row> kRows = {
      // Processor.
      {"container_cpu_usage_seconds_total",
       "Processor time used, in seconds.",
       kCounter,
       {"cpu"},
       cpu_usage},
      {"container_cpu_user_seconds_total",
       "Processor time used in user mode, in seconds.",
       kCounter,
       {},
       cpu<&Cpu::user_ns, kNsPerSecond>},
      {"container_cpu_system_seconds_total",
       "Processor time used in the kernel, in seconds.",
       kCounter,
       {},
       cpu<&Cpu::system_ns, kNsPerSecond>},
      {"container_cpu_cfs_periods_total",
       "Periods in which the processor quota was in force.",
       kCounter,
       {},
       cpu<&Cpu::periods>},
      {"container_cpu_cfs_throttled_periods_total",
       "Periods in which the quota was used up.",
       kCounter,
       {},
       cpu<&Cpu::throttled_periods>},
      {"container_cpu_cfs_throttled_seconds_total",
       "Time spent waiting for quota, in seconds.",
       kCounter,
       {},
       cpu<&Cpu::throttled_ns, kNsPerSecond>},
      // Memory.
      {"container_memory_usage_bytes",
       "Memory in use, caches included.",
       kGauge,
       {},
       memory<&Memory::usage_bytes>},
      {"container_memory_working_set_bytes",
       "Memory in use without what the kernel could take back at once.",
       kGauge,
       {},
       memory<&Memory::working_set_bytes>},
      {"container_memory_max_usage_bytes",
       "The most memory that was ever in use.",
       kGauge,
       {},
       some_memory<&Memory::max_usage_bytes>},
      {"container_memory_rss", "Anonymous memory in use.", kGauge, {}, memory<&Memory::rss_bytes>},
      {"container_memory_cache", "Page cache in use.", kGauge, {}, memory<&Memory::cache_bytes>},
      {"container_memory_mapped_file", "Memory that files are mapped to.", kGauge, {}, mapped_file},
      {"container_memory_kernel_usage",
       "Memory that the kernel uses for the container.",
       kGauge,
       {},
       some_memory<&Memory::kernel_bytes>},
      {"container_memory_swap", "Swap in use.", kGauge, {}, swap_usage},
      {"container_memory_failcnt",
       "How often the memory limit was hit.",
       kCounter,
       {},
       memory<&Memory::limit_hits>},
      {"container_memory_failures_total",
       "Page faults, by kind.",
       kCounter,
       {"failure_type", "scope"},
       memory_failures},
      {"container_oom_events_total",
       "Processes that the OOM killer has ended.",
       kCounter,
       {},
       memory<&Memory::oom_kills>},
      {"container_hugetlb_usage_bytes",
       "Huge pages in use, by their size.",
       kGauge,
       {"pagesize"},
       hugetlb_usage},
      {"container_hugetlb_max_usage_bytes",
       "The most huge pages that were ever in use.",
       kGauge,
       {"pagesize"},
       hugetlb_max_usage},
      // Waiting for what is short.
      {"container_pressure_cpu_waiting_seconds_total",
       "Time in which some task waited for a processor, in seconds.",
       kCounter,
       {},
       pressure<&Stats::cpu_pressure, &Stall::some>},
      {"container_pressure_cpu_stalled_seconds_total",
       "Time in which all tasks waited for a processor, in seconds.",
       kCounter,
       {},
       pressure<&Stats::cpu_pressure, &Stall::full>},
      {"container_pressure_memory_waiting_seconds_total",
       "Time in which some task waited for memory, in seconds.",
       kCounter,
       {},
       pressure<&Stats::memory_pressure, &Stall::some>},
      {"container_pressure_memory_stalled_seconds_total",
       "Time in which all tasks waited for memory, in seconds.",
       kCounter,
       {},
       pressure<&Stats::memory_pressure, &Stall::full>},
      {"container_pressure_io_waiting_seconds_total",
       "Time in which some task waited for a disk, in seconds.",
       kCounter,
       {},
       pressure<&Stats::io_pressure, &Stall::some>},
      {"container_pressure_io_stalled_seconds_total",
       "Time in which all tasks waited for a disk, in seconds.",
       kCounter,
       {},
       pressure<&Stats::io_pressure, &Stall::full>},
      // The file system that the container writes to, and disks.
      {"container_fs_usage_bytes",
       "What the container has written into its root.",
       kGauge,
       {"device"},
       layer_bytes},
      {"container_fs_limit_bytes",
       "Size of the file system that the container writes to.",
       kGauge,
       {"device"},
       file_system<&FsTotals::bytes>},
      {"container_fs_inodes_total",
       "Inodes of that file system.",
       kGauge,
       {"device"},
       file_system<&FsTotals::inodes>},
      {"container_fs_inodes_free",
       "Inodes of that file system that are free.",
       kGauge,
       {"device"},
       file_system<&FsTotals::free_inodes>},
      {"container_fs_reads_total",
       "Reads from a disk.",
       kCounter,
       {"device"},
       io<&cgroup::IoStats::reads>},
      {"container_fs_reads_bytes_total",
       "Bytes read from a disk.",
       kCounter,
       {"device"},
       io<&cgroup::IoStats::read_bytes>},
      {"container_fs_writes_total",
       "Writes to a disk.",
       kCounter,
       {"device"},
       io<&cgroup::IoStats::writes>},
      {"container_fs_writes_bytes_total",
       "Bytes written to a disk.",
       kCounter,
       {"device"},
       io<&cgroup::IoStats::written_bytes>},
      {"container_blkio_device_usage_total",
       "Bytes moved from and to a disk, by operation.",
       kCounter,
       {"device", "major", "minor", "operation"},
       io_bytes},
      // Processes.
      {"container_processes", "Processes that run.", kGauge, {}, processes},
      {"container_threads", "Threads that run.", kGauge, {}, threads},
      {"container_threads_max", "Threads that may run; 0 for no limit.", kGauge, {}, threads_max},
      {"container_file_descriptors",
       "Open file descriptors.",
       kGauge,
       {},
       process_total<&ProcessTotals::file_descriptors>},
      {"container_sockets", "Open sockets.", kGauge, {}, process_total<&ProcessTotals::sockets>},
      {"container_ulimits_soft", "Soft limits of the first process.", kGauge, {"ulimit"}, ulimits},
      // What was asked for.
      {"container_spec_cpu_period",
       "Period of the processor quota, in microseconds.",
       kGauge,
       {},
       asked<&Resources::cpu_period, kDefaultPeriodUs>},
      {"container_spec_cpu_quota",
       "Processor quota a period, in microseconds.",
       kGauge,
       {},
       asked_quota},
      {"container_spec_cpu_shares",
       "Weight in the competition for processors.",
       kGauge,
       {},
       asked<&Resources::cpu_shares, kDefaultShares>},
      {"container_spec_memory_limit_bytes",
       "Memory limit; 0 for none.",
       kGauge,
       {},
       asked<&Resources::memory_limit_bytes>},
      {"container_spec_memory_swap_limit_bytes",
       "Limit of memory and swap; 0 for none.",
       kGauge,
       {},
       asked<&Resources::memory_swap_limit_bytes>},
      {"container_spec_memory_reservation_limit_bytes",
       "Memory that is kept for the container.",
       kGauge,
       {},
       asked_reservation},
      {"container_start_time_seconds",
       "When the container was started, in seconds since 1970.",
       kGauge,
       {},
       start_time},
      {"container_last_seen",
       "When the container was last seen, in seconds since 1970.",
       kGauge,
       {},
       last_seen},
      // The pod's network.
      {"container_network_receive_bytes_total",
       "Bytes received.",
       kCounter,
       {"interface"},
       nullptr,
       &InterfaceUsage::rx_bytes},
      {"container_network_receive_packets_total",
       "Packets received.",
       kCounter,
       {"interface"},
       nullptr,
       &InterfaceUsage::rx_packets},
      {"container_network_receive_packets_dropped_total",
       "Packets dropped while receiving.",
       kCounter,
       {"interface"},
       nullptr,
       &InterfaceUsage::rx_dropped},
      {"container_network_receive_errors_total",
       "Errors while receiving.",
       kCounter,
       {"interface"},
       nullptr,
       &InterfaceUsage::rx_errors},
      {"container_network_transmit_bytes_total",
       "Bytes sent.",
       kCounter,
       {"interface"},
       nullptr,
       &InterfaceUsage::tx_bytes},
      {"container_network_transmit_packets_total",
       "Packets sent.",
       kCounter,
       {"interface"},
       nullptr,
       &InterfaceUsage::tx_packets},
      {"container_network_transmit_packets_dropped_total",
       "Packets dropped while sending.",
       kCounter,
       {"interface"},
       nullptr,
       &InterfaceUsage::tx_dropped},
      {"container_network_transmit_errors_total",
       "Errors while sending.",
       kCounter,
       {"interface"},
       nullptr,
       &InterfaceUsage::tx_errors},
  };
  return kRows;
}

MetricDescriptor descriptor_of(const Row& row) {
  Labels keys = kBaseKeys;
  keys.insert(keys.end(), row.own_keys.begin(), row.own_keys.end());
  return {std::string(row.name), std::string(row.help), row.type, std::move(keys)};
}

}  // namespace

const std::vector<MetricDescriptor>& metric_descriptors() {
  static const std::vector<MetricDescriptor> kAll = [] {
    std::vector<MetricDescriptor> all;
    for (const Row& row : rows()) all.push_back(descriptor_of(row));
    return all;
  }();
  return kAll;
}

std::vector<Metric> container_metrics(const ContainerSource& source) {
  const ContainerConfig& config = source.container.config;
  const Labels base = {
      source.cgroup,
      source.container.id,
      config.user_specified_image.empty() ? config.image : config.user_specified_image,
      source.sandbox.config.name.name_space,
      source.sandbox.config.name.name,
      config.name.name};
  std::vector<Metric> out;
  for (size_t i = 0; i < rows().size(); ++i) {
    if (rows()[i].container == nullptr) continue;
    Values values(metric_descriptors()[i], base, out);
    rows()[i].container(source, values);
  }
  return out;
}

std::vector<Metric> sandbox_metrics(const Sandbox& sandbox,
                                    const std::vector<InterfaceUsage>& interfaces) {
  const Labels base = {
      sandbox.config.cgroup_parent, sandbox.id,   "", sandbox.config.name.name_space,
      sandbox.config.name.name,     kPodContainer};
  std::vector<Metric> out;
  for (size_t i = 0; i < rows().size(); ++i) {
    if (rows()[i].interface == nullptr) continue;
    Values values(metric_descriptors()[i], base, out);
    for (const InterfaceUsage& one : interfaces) {
      values.add(one.*(rows()[i].interface), {one.name});
    }
  }
  return out;
}

std::string block_device_name(const std::string& sys_dev_block, int64_t major, int64_t minor) {
  const std::string numbers = cat(major, ":", minor);
  const auto text = sys::read_file(cat(sys_dev_block, "/", numbers, "/uevent"), kMaxUevent);
  if (!text.ok()) return numbers;
  constexpr std::string_view kName = "DEVNAME=";
  for (const std::string_view line : split(*text, '\n')) {
    if (line.starts_with(kName)) return cat("/dev/", line.substr(kName.size()));
  }
  return numbers;
}

}  // namespace fluyt::engine
