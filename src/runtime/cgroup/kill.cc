#include <fcntl.h>
#include <signal.h>
#include <sys/stat.h>
#include <sys/types.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>

#include "base/strings.h"
#include "base/trace.h"
#include "runtime/cgroup/cgroup.h"
#include "runtime/cgroup/files.h"
#include "runtime/cgroup/systemd.h"
#include "sys/dir_stack.h"
#include "sys/file.h"
#include "sys/process.h"

// Ending what is in a cgroup, and the cgroup itself.
namespace fluyt::runtime::cgroup {

namespace {

// "pid 77 (dd, D)": D is one that no signal reaches, in the kernel.
std::string name_of(pid_t pid) {
  constexpr size_t kMaxStat = 8192;
  constexpr size_t kMaxName = 64;
  const auto stat = sys::read_file(cat("/proc/", pid, "/stat"), kMaxStat);
  const size_t open = stat.ok() ? stat->find('(') : std::string::npos;
  const size_t close = stat.ok() ? stat->rfind(')') : std::string::npos;
  if (open == std::string::npos || close == std::string::npos || close + 2 >= stat->size())
    return cat("pid ", pid);
  return cat("pid ", pid, " (", quote(stat->substr(open + 1, close - open - 1), kMaxName), ", ",
             stat->substr(close + 2, 1), ")");
}

Error still_running(const CgroupRecord& record, const std::vector<pid_t>& left) {
  constexpr size_t kNamed = 4;
  const std::string where = record.unified.empty() && !record.legacy.empty()
                                ? record.legacy.front().second
                                : record.unified;
  std::string names;
  for (size_t i = 0; i < left.size() && i < kNamed; ++i)
    names += cat(i == 0 ? ": " : ", ", name_of(left[i]));
  if (left.size() > kNamed) names += cat(" and ", left.size() - kNamed, " more");
  return Error(Code::kDeadlineExceeded, cat("cgroup ", quote(where, 1024), ": ", left.size(),
                                            left.size() == 1 ? " process is" : " processes are",
                                            " left at the deadline", names));
}

// v1 has no kill for a whole cgroup: frozen processes cannot fork away from the list that we walk.
Result<> kill_round(const CgroupRecord& record) {
  const Deadline patience = Deadline::after_ms(50);
  if (find_legacy(record, "freezer") != nullptr) {
    freeze(record, patience)
        .ignore("a fork bomb that does not stand still yet is met again next round");
  }
  const std::vector<pid_t> listed = FLUYT_TRY(pids(record));
  std::vector<sys::Process> held;
  // Rounds of a bounded size: a descriptor for each process of a bomb would exhaust ours.
  constexpr size_t kRound = 256;
  for (size_t at = 0; at < listed.size() && held.size() < kRound; ++at) {
    auto process = sys::Process::open(listed[at]);
    if (process.ok()) held.push_back(std::move(*process));
  }
  // A pid that is still listed after its pidfd was opened is that process: none was reused between.
  const std::vector<pid_t> confirmed = FLUYT_TRY(pids(record));
  for (const sys::Process& process : held) {
    if (!std::ranges::binary_search(confirmed, process.pid())) continue;
    FLUYT_TRY(process.kill(SIGKILL));
  }
  if (find_legacy(record, "freezer") != nullptr) FLUYT_TRY(thaw(record));
  return {};
}

Result<> kill_legacy(const CgroupRecord& record, Deadline deadline) {
  const bool empty = FLUYT_TRY(retry(deadline, [&]() -> Result<bool> {
    if (FLUYT_TRY(pids(record)).empty()) return true;
    FLUYT_TRY(kill_round(record));
    return FLUYT_TRY(pids(record)).empty();
  }));
  if (!empty) return still_running(record, FLUYT_TRY(pids(record)));
  return {};
}

// True: it is gone. False: it has children, or processes.
Result<bool> remove_one(sys::FdRef parent, const char* name) {
  if (unlinkat(parent.raw(), name, AT_REMOVEDIR) == 0 || errno == ENOENT || errno == ENODEV)
    return true;
  if (errno == EBUSY || errno == ENOTEMPTY) return false;
  return Error::from_errno(errno, cat("rmdir(", quote(name, 1024), ")"));
}

// What the walk stands in is at its end: back, and away with it. EBUSY: a process is on its way out
// of it, or came in.
Result<> remove_left(sys::DirStack& at) {
  const auto left = at.leave();
  if (!left.ok() && left.error().code() == Code::kAborted)
    return Error::from_errno(EBUSY, "a cgroup was removed by somebody else meanwhile");
  const dirent* entry = FLUYT_TRY(left);
  if (entry == nullptr) {
    at.rewind();  // it is met again, empty by now
    return {};
  }
  if (FLUYT_TRY(remove_one(at.dir(), entry->d_name))) return {};
  return Error::from_errno(EBUSY, cat("rmdir(", quote(entry->d_name, 1024), ")"));
}

Result<> remove_children(sys::DirStack at) {
  while (true) {
    const auto entry = at.read();
    if (!entry.ok() && !gone(entry.error())) return entry.error();
    if (!entry.ok() || *entry == nullptr) {
      if (at.depth() == 1) return {};
      FLUYT_TRY(remove_left(at));
      continue;
    }
    if ((*entry)->d_type != DT_DIR || FLUYT_TRY(remove_one(at.dir(), (*entry)->d_name))) continue;
    auto entered = at.enter();
    if (!entered.ok() && !gone(entered.error())) return std::move(entered).error();
  }
}

// EBUSY is passed on: a process is on its way out, or one came in.
Result<> remove_below(const std::string& directory) {
  // Most have no children: one call.
  if (FLUYT_TRY(remove_one(sys::kCwd, directory.c_str()))) return {};
  {
    const auto top = sys::open(directory, O_RDONLY | O_DIRECTORY | O_NOFOLLOW);
    if (!top.ok()) return gone(top.error()) ? Result<>() : Result<>(top.error());
    auto at = sys::DirStack::open(*top, ".");
    if (!at.ok()) return gone(at.error()) ? Result<>() : Result<>(at.error());
    FLUYT_TRY(remove_children(std::move(*at)));
  }
  if (FLUYT_TRY(remove_one(sys::kCwd, directory.c_str()))) return {};
  return Error::from_errno(EBUSY, cat("rmdir(", quote(directory, 1024), ")"));
}

Result<> remove_directory(const std::string& directory, Deadline deadline) {
  std::optional<Error> last;
  const bool removed = FLUYT_TRY(retry(deadline, [&]() -> Result<bool> {
    auto result = remove_below(directory);
    if (result.ok()) return true;
    if (result.error().errno_value() != EBUSY) return std::move(result).error();
    last = std::move(result).error();
    return false;
  }));
  if (!removed && last) return std::move(*last).with_code(Code::kDeadlineExceeded);
  return {};
}

// Where no process is left and the container made no cgroup of its own, which is nearly always, the
// kernel says so itself. Not a scope: its directory is systemd's to remove, and the unit has to go
// with it.
bool remove_at_once(const CgroupRecord& record) {
  if (record.unit) return false;
  bool all_gone = true;
  for (const std::string& directory : all_directories(record))
    all_gone = (::rmdir(directory.c_str()) == 0 || errno == ENOENT) && all_gone;
  return all_gone;
}

}  // namespace

Result<std::vector<pid_t>> pids(const CgroupRecord& record) {
  std::vector<pid_t> out;
  if (!record.unified.empty()) {
    FLUYT_TRY(collect_pids(record.unified, out));
  } else {
    for (const std::string& directory : legacy_directories(record))
      FLUYT_TRY(collect_pids(directory, out));
  }
  std::ranges::sort(out);
  out.erase(std::unique(out.begin(), out.end()), out.end());
  return out;
}

Result<> wait_empty(const CgroupRecord& record, Deadline deadline) {
  const bool empty =
      record.unified.empty()
          ? FLUYT_TRY(
                retry(deadline, [&]() -> Result<bool> { return FLUYT_TRY(pids(record)).empty(); }))
          : FLUYT_TRY(wait_event(record.unified, "populated", false, deadline));
  if (!empty) return still_running(record, FLUYT_TRY(pids(record)));
  return {};
}

Result<> kill_all(const CgroupRecord& record, Deadline deadline) {
  if (record.unified.empty()) return kill_legacy(record, deadline);
  auto killed = sys::write_file(sys::kCwd, cat(record.unified, "/cgroup.kill"), "1");
  // A runtime program may have made it in the v1 hierarchies alone.
  if (!killed.ok() && gone(killed.error()))
    return kill_legacy({.unified = {}, .legacy = record.legacy}, deadline);
  FLUYT_TRY(std::move(killed));
  // cgroup.kill reaches processes frozen on v2; one that somebody froze through v1 dies when
  // thawed.
  if (find_legacy(record, "freezer") != nullptr) {
    thaw(record).ignore("only needed if somebody froze it through v1; the wait below tells");
  }
  return wait_empty(record, deadline);
}

Result<> end(const CgroupRecord& record, Deadline deadline) {
  if (remove_at_once(record)) return {};
  FLUYT_TRY(kill_all(record, deadline));
  return remove(record, deadline);
}

Result<> remove(const CgroupRecord& record, Deadline deadline) {
  if (remove_at_once(record)) return {};
  FLUYT_TRY(wait_empty(record, deadline));
  if (record.unit) {
    const trace::Span span(systemd::kSpan);
    auto manager =
        FLUYT_TRY(systemd::Manager::connect(systemd::instance_of(*record.unit), deadline));
    FLUYT_TRY(manager.stop(*record.unit, deadline));
  }
  // With systemd too: it leaves what it did not make.
  for (const std::string& directory : all_directories(record)) {
    FLUYT_TRY(remove_directory(directory, deadline));
  }
  return {};
}

}  // namespace fluyt::runtime::cgroup
