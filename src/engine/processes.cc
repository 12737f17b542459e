#include "engine/processes.h"

#include <fcntl.h>

#include "base/strings.h"
#include "sys/file.h"

namespace fluyt::engine {
namespace {

constexpr size_t kMaxLimits = 16UL << 10U;

struct Descriptors {
  uint64_t all = 0;
  uint64_t sockets = 0;
};

/// Nothing when the process has gone; at most `limit` are counted.
std::optional<Descriptors> descriptors_of(const std::string& proc, pid_t pid, size_t limit) {
  const auto dir = sys::open(cat(proc, "/", pid, "/fd"), O_RDONLY | O_DIRECTORY);
  if (!dir.ok()) return std::nullopt;
  // Since Linux 6.2 the size is the number: no need to list a million of them.
  const auto info = sys::stat_of(*dir);
  if (info.ok() && info->st_size > static_cast<off_t>(limit)) return Descriptors{limit, 0};
  const auto names = sys::list_dir(*dir);
  if (!names.ok()) return std::nullopt;
  Descriptors out;
  for (const std::string& name : *names) {
    if (out.all >= limit) break;
    ++out.all;
    const auto target = sys::read_link(*dir, name);
    if (target.ok() && target->starts_with("socket:")) ++out.sockets;
  }
  return out;
}

/// "Max open files            1024                 524288               files"
std::optional<uint64_t> max_open_files(const std::string& proc, pid_t pid) {
  const auto text = sys::read_file(cat(proc, "/", pid, "/limits"), kMaxLimits);
  if (!text.ok()) return std::nullopt;
  constexpr std::string_view kName = "Max open files";
  for (const std::string_view line : split(*text, '\n')) {
    if (!line.starts_with(kName)) continue;
    const auto words = split_words(line.substr(kName.size()));
    return words.empty() ? std::nullopt : parse_number<uint64_t>(words[0]);
  }
  return std::nullopt;
}

}  // namespace

ProcessTotals read_processes(const std::string& proc, const std::vector<pid_t>& pids,
                             pid_t first_pid) {
  ProcessTotals out;
  out.processes = pids.size();
  if (first_pid != 0) out.max_open_files = max_open_files(proc, first_pid);
  Descriptors all;
  for (const pid_t pid : pids) {
    const auto one = descriptors_of(proc, pid, kMaxDescriptors + 1 - all.all);
    if (!one) continue;
    all.all += one->all;
    all.sockets += one->sockets;
    if (all.all > kMaxDescriptors) return out;
  }
  out.file_descriptors = all.all;
  out.sockets = all.sockets;
  return out;
}

}  // namespace fluyt::engine
