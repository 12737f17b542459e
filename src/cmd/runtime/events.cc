#include <poll.h>
#include <unistd.h>

#include <array>
#include <nlohmann/json.hpp>

#include "base/strings.h"
#include "cmd/runtime/commands.h"
#include "cmd/runtime/duration.h"
#include "cmd/runtime/store.h"
#include "runtime/cgroup/stats.h"
#include "sys/file.h"
#include "sys/process.h"

namespace fluyt::commands {

namespace {

namespace cgroup = runtime::cgroup;
using Json = nlohmann::ordered_json;

Json line_json(const cgroup::Pressure::Line& line) {
  return {{"avg10", line.avg10},
          {"avg60", line.avg60},
          {"avg300", line.avg300},
          {"total", line.total_us}};
}

void put_pressure(Json& out, const std::optional<cgroup::Pressure>& pressure) {
  if (!pressure) return;
  out["psi"] = {{"some", line_json(pressure->some)}, {"full", line_json(pressure->full)}};
}

Json cpu_json(const cgroup::CpuStats& cpu) {
  return {{"usage",
           {{"total", cpu.usage_ns},
            {"percpu", cpu.per_cpu_ns},
            {"percpu_kernel", cpu.per_cpu_system_ns},
            {"percpu_user", cpu.per_cpu_user_ns},
            {"kernel", cpu.system_ns},
            {"user", cpu.user_ns}}},
          {"throttling",
           {{"periods", cpu.periods},
            {"throttledPeriods", cpu.throttled_periods},
            {"throttledTime", cpu.throttled_ns}}}};
}

Json cpuset_json(const cgroup::CpusetStats& set) {
  return {{"cpus", set.cpus},
          {"cpu_exclusive", set.cpu_exclusive},
          {"mems", set.mems},
          {"mem_hardwall", set.mem_hardwall},
          {"mem_exclusive", set.mem_exclusive},
          {"memory_migrate", set.memory_migrate},
          {"memory_spread_page", set.memory_spread_page},
          {"memory_spread_slab", set.memory_spread_slab},
          {"memory_pressure", set.memory_pressure},
          {"sched_load_balance", set.sched_load_balance},
          {"sched_relax_domain_level", set.sched_relax_domain_level}};
}

Json counter_json(const cgroup::MemoryCounter& counter) {
  return {{"limit", counter.limit_bytes.value_or(UINT64_MAX)},
          {"usage", counter.usage_bytes},
          {"max", counter.max_usage_bytes},
          {"failcnt", counter.limit_hits}};
}

// Memory and swap together, on v2 too: what readers of runc's events know under this name.
cgroup::MemoryCounter with_swap(const cgroup::MemoryStats& memory) {
  if (memory.memory_and_swap) return *memory.memory_and_swap;
  if (!memory.swap_usage_bytes) return {};
  cgroup::MemoryCounter out;
  out.usage_bytes = memory.usage_bytes + *memory.swap_usage_bytes;
  if (memory.limit_bytes && memory.swap_limit_bytes)
    out.limit_bytes = *memory.limit_bytes + *memory.swap_limit_bytes;
  return out;
}

cgroup::MemoryCounter kernel_of(const cgroup::MemoryStats& memory) {
  if (memory.kernel) return *memory.kernel;
  cgroup::MemoryCounter out;
  out.usage_bytes = memory.kernel_bytes.value_or(0);
  return out;
}

Json memory_json(const cgroup::MemoryStats& memory) {
  Json raw = Json::object();
  for (const auto& [name, value] : memory.details) raw[name] = value;
  return {{"cache", memory.cache_bytes},
          {"usage",
           {{"limit", memory.limit_bytes.value_or(UINT64_MAX)},
            {"usage", memory.usage_bytes},
            {"max", memory.max_usage_bytes.value_or(0)},
            {"failcnt", memory.limit_hits}}},
          {"swap", counter_json(with_swap(memory))},
          {"kernel", counter_json(kernel_of(memory))},
          {"kernelTCP", counter_json(memory.kernel_tcp.value_or(cgroup::MemoryCounter{}))},
          {"raw", std::move(raw)}};
}

Json io_json(const std::vector<cgroup::IoStats>& devices) {
  Json bytes = Json::array();
  Json counts = Json::array();
  for (const cgroup::IoStats& device : devices) {
    auto entry = [&](std::string_view op, uint64_t value) {
      return Json{{"major", device.major}, {"minor", device.minor}, {"op", op}, {"value", value}};
    };
    bytes.push_back(entry("Read", device.read_bytes));
    bytes.push_back(entry("Write", device.written_bytes));
    counts.push_back(entry("Read", device.reads));
    counts.push_back(entry("Write", device.writes));
  }
  Json out = Json::object();
  if (devices.empty()) return out;
  out["ioServiceBytesRecursive"] = std::move(bytes);
  out["ioServicedRecursive"] = std::move(counts);
  return out;
}

Json stats_json(const cgroup::Stats& stats) {
  Json out = Json::object();
  out["cpu"] = stats.cpu ? cpu_json(*stats.cpu) : Json::object();
  put_pressure(out["cpu"], stats.cpu_pressure);
  out["cpuset"] = stats.cpuset ? cpuset_json(*stats.cpuset) : Json::object();
  out["memory"] = stats.memory ? memory_json(*stats.memory) : Json::object();
  put_pressure(out["memory"], stats.memory_pressure);
  out["pids"] = Json::object();
  if (stats.pids)
    out["pids"] = {{"current", stats.pids->current}, {"limit", stats.pids->limit.value_or(0)}};
  out["blkio"] = io_json(stats.io);
  put_pressure(out["blkio"], stats.io_pressure);
  out["hugetlb"] = Json::object();
  for (const cgroup::HugetlbStats& pages : stats.hugetlb) {
    out["hugetlb"][pages.page_size] = {{"usage", pages.usage_bytes},
                                       {"max", pages.max_usage_bytes.value_or(0)},
                                       {"failcnt", pages.limit_hits}};
  }
  return out;
}

Result<> print(const Json& line) {
  return sys::write_all(sys::FdRef(STDOUT_FILENO), line.dump() + "\n");
}

Result<> print_stats(const Record& record) {
  const cgroup::Stats stats = FLUYT_TRY(cgroup::stats(record.cgroup));
  return print({{"type", "stats"}, {"id", record.id}, {"data", stats_json(stats)}});
}

// OOM kills, told once each. On v1 the event comes before the kernel has counted the kill, so the
// counter is looked at once more a little later.
class Kills {
 public:
  explicit Kills(const Record& record)
      : id_(record.id), watch_(cgroup::OomWatch::create(record.cgroup)) {}
  int fd() const { return watch_.ok() ? watch_->fd().raw() : -1; }
  Result<> tell() {
    if (!watch_.ok()) return {};
    auto killed = watch_->take();
    if (!killed.ok() || !*killed) return {};
    looks_left_ = 0;
    return print({{"type", "oom"}, {"id", id_}});
  }
  Result<> event() {
    looks_left_ = 10;
    return tell();
  }
  Result<> look_again() {
    if (looks_left_ == 0) return {};
    --looks_left_;
    return tell();
  }
  int patience_ms(int else_ms) const {
    constexpr int kLookMs = 50;
    return looks_left_ == 0 || (else_ms >= 0 && else_ms < kLookMs) ? else_ms : kLookMs;
  }

 private:
  std::string id_;
  Result<cgroup::OomWatch> watch_;
  int looks_left_ = 0;
};

// Lines until the container has ended: its figures once an interval, an OOM kill when it happens.
Result<> follow(const Record& record, const sys::Process& init, int64_t interval_ms) {
  // systemd takes a scope away with its last process, and what was counted with it.
  const cgroup::Hold hold = FLUYT_TRY(cgroup::hold(record.cgroup));
  Kills kills(record);
  Deadline next = Deadline::after_ms(interval_ms);
  while (true) {
    std::array<pollfd, 2> entries{{{init.pidfd().raw(), POLLIN, 0}, {kills.fd(), POLLIN, 0}}};
    if (poll(entries.data(), entries.size(), kills.patience_ms(next.poll_timeout_ms())) < 0 &&
        errno != EINTR)
      return Error::from_errno(errno, "poll()");
    FLUYT_TRY(entries[1].revents != 0 ? kills.event() : kills.look_again());
    // The event may come behind the death that it tells of; the count does not.
    if (entries[0].revents != 0) return kills.tell();
    if (!next.passed()) continue;
    auto printed = print_stats(record);
    // Deleted meanwhile: its end shows at once.
    if (!printed.ok() && printed.error().code() != Code::kNotFound) return printed;
    next = Deadline::after_ms(interval_ms);
  }
}

}  // namespace

Result<int> events(Invocation& call) {
  std::string interval = "5s";
  bool once = false;
  const auto words = FLUYT_TRY(
      read_words(call,
                 {{"interval", 0, &interval, "time between two lines of figures, such as 500ms"},
                  {"stats", 0, &once, "one line, then return"}},
                 "events [options] CONTAINER", 1, 1));
  if (!words) return 0;
  const int64_t interval_ms = FLUYT_TRY_CONTEXT(parse_duration_ms(interval), "option --interval");
  if (interval_ms <= 0) {
    return Error(Code::kInvalidArgument,
                 cat("option --interval: ", quote(interval), ": expected more than 0"));
  }
  const Folder folder = FLUYT_TRY(Folder::open(call.globals.root, (*words)[0]));
  const Record record = FLUYT_TRY(folder.load());
  auto init = sys::Process::open(record.pid);
  if (!init.ok() || FLUYT_TRY(status_of(folder, record)) == Status::kStopped) {
    return Error(Code::kFailedPrecondition,
                 cat("container with id ", record.id, " is not running"));
  }
  if (once) {
    FLUYT_TRY(print_stats(record));
  } else {
    FLUYT_TRY(follow(record, *init, interval_ms));
  }
  return 0;
}

}  // namespace fluyt::commands
