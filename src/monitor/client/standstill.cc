#include "monitor/client/standstill.h"

#include <string_view>

#include "base/strings.h"
#include "base/time.h"
#include "sys/file.h"

namespace fluyt::monitor {

namespace {

constexpr size_t kMaxStatusBytes = 16UL << 10U;
constexpr uint64_t kExiting = 0x4;  // PF_EXITING of proc_pid_stat(5), (9) flags
constexpr int64_t kHangsNs = 1'000'000'000;
constexpr int64_t kKilledNs = 330'000'000;

}  // namespace

Result<Progress> progress_of(pid_t pid) {
  Progress progress;
  const std::string stat = FLUYT_TRY(sys::read_file(cat("/proc/", pid, "/stat"), kMaxStatusBytes));
  const auto fields = split_words(std::string_view(stat).substr(stat.rfind(')') + 1));
  if (fields.size() < 13)
    return Error(Code::kInternal, cat("/proc/", pid, "/stat: ", quote(stat, 256)));
  progress.state = fields[0][0];
  progress.ending = (parse_number<uint64_t>(fields[6]).value_or(0) & kExiting) != 0;
  progress.cpu_ticks = parse_number<uint64_t>(fields[11]).value_or(0) +
                       parse_number<uint64_t>(fields[12]).value_or(0);
  const std::string status =
      FLUYT_TRY(sys::read_file(cat("/proc/", pid, "/status"), kMaxStatusBytes));
  for (const std::string_view line : split(status, '\n')) {
    const size_t colon = line.find("ctxt_switches:");
    if (colon == std::string_view::npos) continue;
    progress.switches += parse_number<uint64_t>(trim(line.substr(line.find(':') + 1))).value_or(0);
  }
  return progress;
}

std::string StandstillWatch::look() {
  const auto now = progress_of(pid_);
  if (!now.ok()) return {};  // its pidfd tells of its end
  if (now->state == 'T' || now->state == 't')
    return cat("pid ", pid_, now->state == 'T' ? " is stopped" : " is held by a tracer");
  if (*now != last_) {
    last_ = *now;
    since_ns_ = now_boot_ns();
  }
  if (last_.state != 'D' || !has_not_moved()) return {};
  return cat("pid ", pid_, " hangs in the kernel");
}

bool StandstillWatch::is_idle() const { return last_.state == 'S' && has_not_moved(); }

bool StandstillWatch::has_not_moved() const { return now_boot_ns() - since_ns_ >= kHangsNs; }

bool KilledWatch::stands_still(const std::vector<pid_t>& pids) {
  std::map<pid_t, Progress> now;
  bool running = false;
  bool waits_for_others = false;
  bool held = false;
  for (const pid_t pid : pids) {
    const auto progress = progress_of(pid);
    if (!progress.ok()) continue;
    running = running || progress->state == 'R';
    waits_for_others = waits_for_others || (progress->state == 'S' && progress->ending);
    held = held || progress->state == 'D';
    now.emplace(pid, *progress);
  }
  // Where one of them is held by the kernel, that is what the init waits for.
  if (running || (waits_for_others && !held) || now.empty() || now != last_) {
    last_ = std::move(now);
    since_ns_ = now_boot_ns();
    return false;
  }
  return now_boot_ns() - since_ns_ >= kKilledNs;
}

}  // namespace fluyt::monitor
