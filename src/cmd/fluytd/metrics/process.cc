#include "cmd/fluytd/metrics/process.h"

#include <sys/resource.h>
#include <unistd.h>

#include "base/strings.h"
#include "base/time.h"
#include "sys/file.h"

namespace fluyt::daemon {
namespace {

constexpr size_t kMaxStat = 4096;
// proc(5): fields of /proc/PID/stat, counted from 1; those behind the name, in brackets, which may
// hold anything.
constexpr size_t kFirstBehindName = 3;
constexpr size_t kUtime = 14;
constexpr size_t kStime = 15;
constexpr size_t kThreads = 20;
constexpr size_t kStart = 22;
constexpr size_t kVirtual = 23;
constexpr size_t kResident = 24;

}  // namespace

Result<ProcessUsage> own_usage() {
  const std::string stat = FLUYT_TRY(sys::read_file("/proc/self/stat", kMaxStat));
  const auto fields = split_words(std::string_view(stat).substr(stat.rfind(')') + 1));
  const auto field = [&](size_t number) -> uint64_t {
    const size_t at = number - kFirstBehindName;
    return at < fields.size() ? parse_number<uint64_t>(fields[at]).value_or(0) : 0;
  };
  const auto ticks = static_cast<double>(::sysconf(_SC_CLK_TCK));
  ProcessUsage usage;
  usage.cpu_seconds = static_cast<double>(field(kUtime) + field(kStime)) / ticks;
  const double since_boot = static_cast<double>(now_boot_ns()) / 1e9;
  usage.started_at = static_cast<double>(now_unix_ns()) / 1e9 -
                     (since_boot - static_cast<double>(field(kStart)) / ticks);
  usage.threads = field(kThreads);
  usage.virtual_bytes = field(kVirtual);
  usage.resident_bytes = field(kResident) * static_cast<uint64_t>(::sysconf(_SC_PAGESIZE));
  usage.open_fds = FLUYT_TRY(sys::list_dir("/proc/self/fd")).size();
  rlimit limit{};
  if (::getrlimit(RLIMIT_NOFILE, &limit) == 0) usage.max_fds = limit.rlim_cur;
  return usage;
}

}  // namespace fluyt::daemon
