#include <unistd.h>

#include <nlohmann/json.hpp>

#include "base/strings.h"
#include "cmd/runf/commands.h"
#include "cmd/runf/store.h"
#include "runtime/cgroup/stats.h"
#include "sys/file.h"

namespace fluyt::runf {

namespace {

namespace cgroup = runtime::cgroup;
using Json = nlohmann::ordered_json;

Json cpu_json(const cgroup::CpuStats& cpu) {
  return {{"usage",
           {{"total", cpu.usage_ns},
            {"kernel", cpu.system_ns},
            {"user", cpu.user_ns},
            {"percpu", cpu.per_cpu_ns}}},
          {"throttling",
           {{"periods", cpu.periods},
            {"throttledPeriods", cpu.throttled_periods},
            {"throttledTime", cpu.throttled_ns}}}};
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
          {"swap",
           {{"limit", memory.swap_limit_bytes.value_or(0)},
            {"usage", memory.swap_usage_bytes.value_or(0)},
            {"failcnt", 0}}},
          {"raw", std::move(raw)}};
}

Json stats_json(const cgroup::Stats& stats) {
  Json out = Json::object();
  if (stats.cpu) out["cpu"] = cpu_json(*stats.cpu);
  if (stats.memory) out["memory"] = memory_json(*stats.memory);
  if (stats.pids)
    out["pids"] = {{"current", stats.pids->current}, {"limit", stats.pids->limit.value_or(0)}};
  Json io = Json::array();
  for (const cgroup::IoStats& device : stats.io) {
    io.push_back({{"major", device.major},
                  {"minor", device.minor},
                  {"op", "Read"},
                  {"value", device.read_bytes}});
    io.push_back({{"major", device.major},
                  {"minor", device.minor},
                  {"op", "Write"},
                  {"value", device.written_bytes}});
  }
  if (!io.empty()) out["blkio"] = {{"ioServiceBytesRecursive", std::move(io)}};
  for (const cgroup::HugetlbStats& pages : stats.hugetlb) {
    out["hugetlb"][pages.page_size] = {{"usage", pages.usage_bytes},
                                       {"max", pages.max_usage_bytes.value_or(0)},
                                       {"failcnt", pages.limit_hits}};
  }
  return out;
}

Result<int64_t> parse_seconds(std::string_view text) {
  if (text.ends_with('s')) text.remove_suffix(1);
  const auto seconds = parse_number<int64_t>(text);
  if (!seconds || *seconds < 1 || *seconds > 86'400) {
    return Error(Code::kInvalidArgument,
                 cat("option --interval: ", quote(text), ": expected seconds such as 5s"));
  }
  return *seconds;
}

}  // namespace

Result<int> events(Invocation& call) {
  std::string interval = "5s";
  bool once = false;
  const auto words = FLUYT_TRY(read_words(call,
                                          {{"interval", 0, &interval, "seconds between two lines"},
                                           {"stats", 0, &once, "one line, then return"}},
                                          "events [options] CONTAINER", 1, 1));
  if (!words) return 0;
  const int64_t seconds = FLUYT_TRY(parse_seconds(interval));
  const Folder folder = FLUYT_TRY(Folder::open(call.globals.root, (*words)[0]));
  const Record record = FLUYT_TRY(folder.load());
  uint64_t kills = cgroup::oom_kills(record.cgroup).value_or(0);
  while (FLUYT_TRY(status_of(folder, record)) != Status::kStopped) {
    const cgroup::Stats stats = FLUYT_TRY(cgroup::stats(record.cgroup));
    Json line = {{"type", "stats"}, {"id", record.id}, {"data", stats_json(stats)}};
    FLUYT_TRY(sys::write_all(sys::FdRef(STDOUT_FILENO), line.dump() + "\n"));
    if (once) return 0;
    sleep(static_cast<unsigned>(seconds));
    const uint64_t now = cgroup::oom_kills(record.cgroup).value_or(kills);
    if (now > kills) {
      FLUYT_TRY(sys::write_all(sys::FdRef(STDOUT_FILENO),
                               Json{{"type", "oom"}, {"id", record.id}}.dump() + "\n"));
    }
    kills = now;
  }
  if (once) return Error(Code::kFailedPrecondition, "container is not running");
  return 0;
}

}  // namespace fluyt::runf
