#include <unistd.h>

#include "base/strings.h"
#include "cmd/runtime/commands.h"
#include "cmd/runtime/store.h"
#include "runtime/container.h"
#include "sys/file.h"

namespace fluyt::commands {

namespace {

using Text = std::optional<std::string>;

struct Options {
  Text resources;
  Text blkio_weight, cpu_period, cpu_quota, cpu_burst, cpu_share, cpu_rt_period, cpu_rt_runtime,
      cpuset_cpus, cpuset_mems, kernel_memory, kernel_memory_tcp, memory, memory_reservation,
      memory_swap, pids_limit, cpu_idle;
  Text l3_cache_schema, mem_bw_schema;
};

template <class T>
Result<> set_number(const Text& text, std::string_view option, std::optional<T>& target) {
  if (!text) return {};
  const auto number = parse_number<T>(*text);
  if (!number) {
    return Error(Code::kInvalidArgument,
                 cat("option --", option, ": ", quote(*text), ": expected a number"));
  }
  target = *number;
  return {};
}

// "512m": bytes with a unit of 1024.
Result<> set_bytes(const Text& text, std::string_view option, std::optional<int64_t>& target) {
  if (!text) return {};
  std::string digits = to_lower(*text);
  if (digits.size() > 1 && digits.ends_with('b') && digits != "b") digits.pop_back();
  int64_t unit = 1;
  constexpr std::string_view kUnits = "kmgt";
  const size_t place = digits.empty() ? std::string_view::npos : kUnits.find(digits.back());
  if (place != std::string_view::npos) {
    digits.pop_back();
    unit = int64_t{1} << (10 * (place + 1));
  }
  const auto number = parse_number<int64_t>(digits);
  if (!number || *number > INT64_MAX / unit || *number < -1) {
    return Error(Code::kInvalidArgument,
                 cat("option --", option, ": ", quote(*text), ": expected bytes such as 512m"));
  }
  target = *number == -1 ? -1 : *number * unit;
  return {};
}

Result<oci::Resources> from_options(const Options& o) {
  oci::Resources out;
  oci::MemoryResources memory;
  FLUYT_TRY(set_bytes(o.memory, "memory", memory.limit));
  FLUYT_TRY(set_bytes(o.memory_reservation, "memory-reservation", memory.reservation));
  FLUYT_TRY(set_bytes(o.memory_swap, "memory-swap", memory.swap));
  if (memory != oci::MemoryResources{}) out.memory = memory;
  oci::CpuResources cpu;
  FLUYT_TRY(set_number(o.cpu_share, "cpu-share", cpu.shares));
  FLUYT_TRY(set_number(o.cpu_quota, "cpu-quota", cpu.quota));
  FLUYT_TRY(set_number(o.cpu_burst, "cpu-burst", cpu.burst));
  FLUYT_TRY(set_number(o.cpu_period, "cpu-period", cpu.period));
  FLUYT_TRY(set_number(o.cpu_rt_runtime, "cpu-rt-runtime", cpu.realtime_runtime));
  FLUYT_TRY(set_number(o.cpu_rt_period, "cpu-rt-period", cpu.realtime_period));
  FLUYT_TRY(set_number(o.cpu_idle, "cpu-idle", cpu.idle));
  if (o.cpuset_cpus) cpu.cpus = *o.cpuset_cpus;
  if (o.cpuset_mems) cpu.mems = *o.cpuset_mems;
  if (cpu != oci::CpuResources{}) out.cpu = cpu;
  oci::BlockIoResources block_io;
  FLUYT_TRY(set_number(o.blkio_weight, "blkio-weight", block_io.weight));
  if (block_io != oci::BlockIoResources{}) out.block_io = block_io;
  FLUYT_TRY(set_number(o.pids_limit, "pids-limit", out.pids_limit));
  return out;
}

Result<oci::Resources> from_file(const std::string& path) {
  const std::string text =
      path == "-" ? FLUYT_TRY(sys::read_all(sys::FdRef(STDIN_FILENO), oci::kMaxSpecBytes))
                  : FLUYT_TRY(sys::read_file(path, oci::kMaxSpecBytes));
  return oci::parse_resources(text);
}

// The container's class of resctrl with what it shall have from now on; nothing: that is not asked.
Result<std::optional<oci::IntelRdt>> schemata_of(const Options& o, const Folder& folder) {
  if (!o.l3_cache_schema && !o.mem_bw_schema) return std::optional<oci::IntelRdt>();
  oci::Spec spec = FLUYT_TRY(folder.load_config());
  if (!spec.linux_ || !spec.linux_->intel_rdt) {
    return Error(Code::kFailedPrecondition,
                 "option --l3-cache-schema, --mem-bw-schema: the container was made without "
                 "linux.intelRdt, and has no class of its own");
  }
  oci::IntelRdt asked = std::move(*spec.linux_->intel_rdt);
  asked.l3_cache_schema = o.l3_cache_schema.value_or("");
  asked.mem_bw_schema = o.mem_bw_schema.value_or("");
  asked.schemata.clear();
  return std::optional(std::move(asked));
}

}  // namespace

Result<int> update(Invocation& call) {
  Options o;
  const auto words = FLUYT_TRY(read_words(
      call,
      {{"resources", 'r', &o.resources, "file with the resources object, - for standard input"},
       {"blkio-weight", 0, &o.blkio_weight, "10 to 1000"},
       {"cpu-period", 0, &o.cpu_period, "microseconds"},
       {"cpu-quota", 0, &o.cpu_quota, "microseconds a period"},
       {"cpu-burst", 0, &o.cpu_burst, "microseconds"},
       {"cpu-share", 0, &o.cpu_share, "relative weight"},
       {"cpu-rt-period", 0, &o.cpu_rt_period, "microseconds"},
       {"cpu-rt-runtime", 0, &o.cpu_rt_runtime, "microseconds a period"},
       {"cpuset-cpus", 0, &o.cpuset_cpus, "list of CPUs"},
       {"cpuset-mems", 0, &o.cpuset_mems, "list of memory nodes"},
       {"kernel-memory", 0, &o.kernel_memory, "obsolete: ignored by the kernel"},
       {"kernel-memory-tcp", 0, &o.kernel_memory_tcp, "obsolete: ignored by the kernel"},
       {"memory", 0, &o.memory, "bytes"},
       {"cpu-idle", 0, &o.cpu_idle, "0 or 1"},
       {"memory-reservation", 0, &o.memory_reservation, "bytes"},
       {"memory-swap", 0, &o.memory_swap, "bytes of memory and swap"},
       {"pids-limit", 0, &o.pids_limit, "-1: none"},
       {"l3-cache-schema", 0, &o.l3_cache_schema, "Intel RDT"},
       {"mem-bw-schema", 0, &o.mem_bw_schema, "Intel RDT"}},
      "update [options] CONTAINER", 1, 1));
  if (!words) return 0;
  if (o.kernel_memory || o.kernel_memory_tcp)
    call.log.warn("kernel memory limits are obsolete and ignored");
  const Folder folder = FLUYT_TRY(Folder::open(call.globals.root, (*words)[0]));
  const Record record = FLUYT_TRY(folder.load());
  if (FLUYT_TRY(status_of(folder, record)) == Status::kStopped) {
    return Error(Code::kFailedPrecondition, "container not running");
  }
  oci::Resources resources = FLUYT_TRY(o.resources ? from_file(*o.resources) : from_options(o));
  // The container's are as they were made, with what hooks and others have allowed since.
  resources.devices.clear();
  if (const std::string left = runtime::cgroup::left_out(record.cgroup, resources); !left.empty())
    call.log.warn(left);
  const auto schemata = FLUYT_TRY(schemata_of(o, folder));
  FLUYT_TRY(call.launcher.update(resources, folder.path()));
  // Before the limits, which are all put back where one of them is refused.
  if (schemata) FLUYT_TRY(runtime::update_schemata(*schemata, record.id));
  FLUYT_TRY(runtime::update(record.cgroup, resources));
  return 0;
}

}  // namespace fluyt::commands
