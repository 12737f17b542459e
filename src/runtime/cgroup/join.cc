#include <fcntl.h>
#include <unistd.h>

#include <cerrno>

#include "base/strings.h"
#include "runtime/cgroup/cgroup.h"
#include "runtime/cgroup/files.h"
#include "sys/file.h"

namespace fluyt::runtime::cgroup {

namespace {

Error explained(Error error) {
  if (error.errno_value() != ENOSPC) return error;
  return std::move(error).add_context("cpuset.cpus or cpuset.mems is empty");
}

Result<> put(const std::string& directory, pid_t pid) {
  const std::string file = cat(directory, "/cgroup.procs");
  auto written = sys::write_file(sys::kCwd, file, std::to_string(pid));
  // Older kernels say EINVAL of a task that clone has not let run yet (TASK_NEW).
  for (int i = 0; i < 5 && !written.ok() && written.error().errno_value() == EINVAL; ++i) {
    usleep(2000);
    written = sys::write_file(sys::kCwd, file, std::to_string(pid));
  }
  if (!written.ok()) return explained(std::move(written).error());
  return {};
}

// Where a process is in the v2 hierarchy: the line "0::/path" of /proc/PID/cgroup.
Result<std::string> unified_path_of(pid_t pid) {
  const std::string text = FLUYT_TRY(sys::read_file(cat("/proc/", pid, "/cgroup"), 1UL << 20U));
  for (const std::string_view line : split(text, '\n')) {
    if (line.starts_with("0::")) return std::string(line.substr(3));
  }
  return Error(Code::kNotFound, cat("process ", pid, " is in no v2 cgroup"));
}

// The container had the whole hierarchy, moved itself and left its own cgroup to be removed: where
// its init is, its processes are.
Result<> join_where(pid_t beside, pid_t pid) {
  const std::string path = FLUYT_TRY(unified_path_of(beside));
  const Host host = FLUYT_TRY(probe());
  if (path.starts_with("/..")) {
    return Error(Code::kFailedPrecondition, cat("process ", beside, " is in cgroup ", quote(path),
                                                ", above all that is ours"));
  }
  return put(cat(host.unified, path), pid);
}

Result<> join_unified(const CgroupRecord& record, pid_t pid, pid_t beside) {
  auto joined = put(record.unified, pid);
  if (joined.ok() || beside == 0) return joined;
  if (joined.error().errno_value() == ENOENT) return join_where(beside, pid);
  if (joined.error().errno_value() != EBUSY) return joined;
  // The container made cgroups of its own below and gave them controllers, as systemd does inside:
  // v2 then lets no process into the upper one. Its init sits in one of them; the path comes from
  // the kernel, and is compared with ours on whole names before it is used.
  const std::string path = FLUYT_TRY(unified_path_of(beside));
  // Our directory is a mount point and the path below it; wherever the mount point ends, what
  // follows is opened below the container's own cgroup and nowhere else.
  for (size_t cut = 0; cut < record.unified.size(); ++cut) {
    if (record.unified[cut] != '/') continue;
    const std::string_view ours = std::string_view(record.unified).substr(cut);
    if (path.size() > ours.size() + 1 && path.starts_with(ours) && path[ours.size()] == '/' &&
        path.find("/../") == std::string::npos && !path.ends_with("/..")) {
      return join_below({.unified = record.unified, .legacy = {}}, path.substr(ours.size() + 1),
                        pid);
    }
  }
  return joined;
}

// The kernel would refuse it too, and say less.
Result<> check_below(std::string_view path) {
  for (const std::string_view piece : split(path, '/')) {
    if (piece == "..") {
      return Error(Code::kInvalidArgument, cat("bad sub cgroup path: ", quote(path),
                                               ": expected one below the container's"));
    }
  }
  return {};
}

Result<> join_in(const std::string& directory, std::string_view below, pid_t pid) {
  while (below.starts_with('/')) below.remove_prefix(1);
  if (below.empty()) below = ".";
  const sys::Fd root = FLUYT_TRY(sys::open(directory, O_PATH | O_DIRECTORY));
  const sys::Fd target =
      FLUYT_TRY(sys::open_in(root, below, O_PATH | O_DIRECTORY, 0, sys::Resolve::kBeneath));
  return sys::write_file(target, "cgroup.procs", std::to_string(pid));
}

}  // namespace

Result<> join(const CgroupRecord& record, pid_t pid, pid_t beside) {
  if (!record.unified.empty()) FLUYT_TRY(join_unified(record, pid, beside));
  for (const std::string& directory : legacy_directories(record)) FLUYT_TRY(put(directory, pid));
  return {};
}

Result<Ways> open_ways(const CgroupRecord& record) {
  Ways ways;
  if (!record.unified.empty())
    ways.unified = FLUYT_TRY(sys::open(record.unified, O_PATH | O_DIRECTORY));
  for (const std::string& directory : legacy_directories(record))
    ways.tasks.push_back(FLUYT_TRY(sys::open(directory + "/tasks", O_WRONLY)));
  return ways;
}

Result<> enter(const std::vector<sys::Fd>& tasks) {
  for (const sys::Fd& file : tasks) {
    auto entered = sys::write_all(file, "0");
    if (!entered.ok()) return explained(std::move(entered).error()).add_context("cgroup");
  }
  return {};
}

Result<> join_below(const CgroupRecord& record, std::string_view path, pid_t pid) {
  const std::string shown = cat("cgroup ", quote(path));
  FLUYT_TRY(check_below(path));
  if (!record.unified.empty()) FLUYT_TRY_CONTEXT(join_in(record.unified, path, pid), shown);
  // A container may have made it in some hierarchies only, or left its cpuset empty (ENOSPC): those
  // keep the process at the container's top, whose limits hold for it.
  bool joined_any = !record.unified.empty();
  for (const std::string& directory : legacy_directories(record)) {
    auto joined = join_in(directory, path, pid);
    if (joined.ok()) {
      joined_any = true;
      continue;
    }
    const int why = joined.error().errno_value();
    if (why != ENOENT && why != ENOSPC) return std::move(joined).error().add_context(shown);
    FLUYT_TRY_CONTEXT(put(directory, pid), shown);
  }
  if (joined_any) return {};
  return Error(Code::kNotFound, cat(shown, ": no such file or directory"));
}

Result<> join_below_each(const CgroupRecord& record,
                         const std::map<std::string, std::string>& paths, pid_t pid) {
  std::map<std::string, std::string_view> below;  // by directory: some controllers share one
  for (const auto& [controller, path] : paths) {
    FLUYT_TRY(check_below(path));
    const std::string* directory = find_legacy(record, controller);
    if (directory == nullptr) {
      return Error(Code::kInvalidArgument, cat("unknown controller ", controller,
                                               ": expected a v1 controller of this host"));
    }
    below[*directory] = path;
  }
  if (!record.unified.empty()) FLUYT_TRY(put(record.unified, pid));
  for (const std::string& directory : legacy_directories(record)) {
    const auto found = below.find(directory);
    const std::string_view path = found == below.end() ? std::string_view() : found->second;
    FLUYT_TRY_CONTEXT(join_in(directory, path, pid), cat("cgroup ", quote(path)));
  }
  return {};
}

}  // namespace fluyt::runtime::cgroup
