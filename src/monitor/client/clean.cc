#include "monitor/client/clean.h"

#include <poll.h>
#include <sys/mount.h>

#include <cerrno>
#include <csignal>
#include <functional>
#include <utility>

#include "base/strings.h"
#include "monitor/client/standstill.h"
#include "monitor/program/cleanup.h"
#include "monitor/protocol/cgroup.h"
#include "monitor/protocol/state_folder.h"
#include "oci/runtime_spec.h"
#include "runtime/cgroup/cgroup.h"
#include "sys/file.h"

namespace fluyt::monitor {

namespace {

constexpr size_t kMaxRecordBytes = 1UL << 20U;
constexpr int64_t kDeleteMs = 5'000;

// The process of a record, if it still runs: after a reboot, or under a used-again pid, it does
// not.
Result<std::optional<sys::Process>> find_process(int32_t pid, uint64_t start_time) {
  if (pid <= 0) return std::optional<sys::Process>();
  auto process = sys::Process::open(pid);
  if (!process.ok()) {
    if (process.error().code() == Code::kNotFound) return std::optional<sys::Process>();
    return std::move(process).error();
  }
  auto start = sys::start_time_of(pid);
  if (!start.ok() || *start != start_time) return std::optional<sys::Process>();
  return std::optional<sys::Process>(std::move(process).value());
}

Result<> end_process(int32_t pid, uint64_t start_time, Deadline deadline) {
  auto process = FLUYT_TRY(find_process(pid, start_time));
  if (!process) return {};
  constexpr int64_t kRoundMs = 100;
  FLUYT_TRY(process->kill(SIGKILL));
  KilledWatch watch;
  while (!FLUYT_TRY(wait_gone(*process, Deadline::after_ms(kRoundMs)))) {
    if (!deadline.passed() && !watch.stands_still({pid})) continue;
    const auto progress = progress_of(pid);
    return Error(Code::kDeadlineExceeded,
                 cat("pid ", pid, " does not end after SIGKILL",
                     progress.ok() ? cat(": it is in state ", std::string(1, progress->state))
                                   : std::string()));
  }
  return {};
}

template <class Record>
runtime::CgroupRecord cgroup_of(const Record& record) {
  return cgroup_in<runtime::CgroupRecord>(record);
}

bool has_cgroup(const runtime::CgroupRecord& cgroup) {
  return !cgroup.unified.empty() || !cgroup.legacy.empty();
}

// `act` kills what is in the cgroup, in rounds until it is done: given up when what is left gets
// nowhere, for then the kernel holds it.
Result<> in_rounds(const runtime::CgroupRecord& cgroup, Deadline deadline,
                   const std::function<Result<>(Deadline)>& act) {
  constexpr int64_t kRoundMs = 150;
  if (!has_cgroup(cgroup)) return {};
  KilledWatch watch;
  while (true) {
    auto done = act(Deadline::after_ms(kRoundMs));
    if (done.ok() || done.error().code() != Code::kDeadlineExceeded || deadline.passed())
      return done;
    auto left = runtime::cgroup::pids(cgroup);
    if (left.ok() && watch.stands_still(*left)) return done;
  }
}

Result<> end_cgroup(const runtime::CgroupRecord& cgroup, Deadline deadline) {
  if (cgroup.unit) {
    FLUYT_TRY(in_rounds(cgroup, deadline,
                        [&](Deadline round) { return runtime::cgroup::kill_all(cgroup, round); }));
    // Nothing runs there any more. systemd answers in its own time, which on a busy host is longer
    // than a round.
    return runtime::cgroup::remove(cgroup, deadline);
  }
  return in_rounds(cgroup, deadline,
                   [&](Deadline round) { return runtime::cgroup::end(cgroup, round); });
}

Result<> unmount(const std::string& path) {
  if (umount2(path.c_str(), MNT_DETACH | UMOUNT_NOFOLLOW) == 0) return {};
  if (errno == EINVAL || errno == ENOENT) return {};  // no mount there
  return Error::from_errno(errno, cat("umount2(", quote(path, 1024), ")"));
}

Result<> unmount_namespaces(const std::string& state_dir) {
  const std::string folder = cat(state_dir, "/", kNamespaceFolder);
  for (const std::string_view file : kNamespaceFiles) FLUYT_TRY(unmount(cat(folder, "/", file)));
  return unmount(folder);
}

// Nothing when there is no such file.
Result<std::optional<ProcessRecord>> find_process_record(const std::string& path) {
  auto text = sys::read_file(path, kMaxRecordBytes);
  if (!text.ok()) {
    if (text.error().code() == Code::kNotFound) return std::optional<ProcessRecord>();
    return std::move(text).error();
  }
  return std::optional(FLUYT_TRY_CONTEXT(decode_process_record(*text, ToCome::kTaken), path));
}

// Of a record that names one.
Result<bool> lacks_process(const std::string& path) {
  const auto record = FLUYT_TRY(find_process_record(path));
  if (!record || record->pid == 0) return false;
  if (record->boot_id != FLUYT_TRY(sys::boot_id())) return true;
  const auto process = FLUYT_TRY(find_process(record->pid, record->start_time));
  // One that has ended may not have been waited for yet.
  return !process || FLUYT_TRY(wait_gone(*process, Deadline::after_ms(0)));
}

// The program of a sandbox that has one.
Result<std::optional<RuntimeProgram>> find_runtime(const std::string& state_dir) {
  const std::string path = cat(state_dir, "/", kRuntimeFile);
  auto text = sys::read_file(path, kMaxRecordBytes);
  if (text.ok()) return std::optional(FLUYT_TRY_CONTEXT(decode_runtime(*text), path));
  if (text.error().code() == Code::kNotFound) return std::optional<RuntimeProgram>();
  return std::move(text).error();
}

}  // namespace

Result<bool> wait_gone(const sys::Process& process, Deadline deadline) {
  while (true) {
    pollfd entry{.fd = process.pidfd().raw(), .events = POLLIN, .revents = 0};
    const int ready = poll(&entry, 1, deadline.poll_timeout_ms());
    if (ready < 0 && errno == EINTR) continue;
    if (ready < 0) return Error::from_errno(errno, "poll(pidfd)");
    return ready > 0;
  }
}

Result<std::vector<ContainerInfo>> read_records(const std::string& state_dir) {
  std::vector<ContainerInfo> records;
  auto names = sys::list_dir(cat(state_dir, "/", kContainerFolder));
  if (!names.ok()) {
    if (names.error().code() == Code::kNotFound) return records;
    return std::move(names).error();
  }
  for (const std::string& name : *names) {
    if (!name.ends_with(kRecordSuffix) || name.starts_with('.')) continue;
    const std::string path = cat(state_dir, "/", kContainerFolder, "/", name);
    records.push_back(
        FLUYT_TRY_CONTEXT(decode_record(FLUYT_TRY(sys::read_file(path, kMaxRecordBytes))), path));
  }
  return records;
}

Result<std::string> read_spec(const std::string& state_dir, const std::string& bundle,
                              const std::string& container_id) {
  auto linked = sys::read_file(
      cat(state_dir, "/", kContainerFolder, "/", container_id, kSpecSuffix), oci::kMaxSpecBytes);
  if (linked.ok() || linked.error().code() != Code::kNotFound) return linked;
  return sys::read_file(cat(bundle, "/", kConfigFile), oci::kMaxSpecBytes);
}

Result<std::optional<ContainerInfo>> find_record(const std::string& state_dir,
                                                 const std::string& id) {
  const std::string path = cat(state_dir, "/", kContainerFolder, "/", id, kRecordSuffix);
  auto text = sys::read_file(path, kMaxRecordBytes);
  if (text.ok()) return std::optional(FLUYT_TRY_CONTEXT(decode_record(*text), path));
  if (text.error().code() == Code::kNotFound) return std::optional<ContainerInfo>();
  return std::move(text).error();
}

std::vector<runtime::CgroupRecord> cgroups_of(const std::string& state_dir) {
  std::vector<runtime::CgroupRecord> cgroups;
  const auto records = read_records(state_dir);
  if (records.ok()) {
    for (const ContainerInfo& info : *records) cgroups.push_back(cgroup_of(info));
  }
  return cgroups;
}

Result<> signal_by_record(const std::string& state_dir, const std::string& id, int signal, bool all,
                          Deadline deadline) {
  const auto info = FLUYT_TRY(find_record(state_dir, id));
  if (!info || info->state == ContainerState::kExited) return {};
  if (all && signal == SIGKILL) {
    const auto cgroup = cgroup_of(*info);
    if (has_cgroup(cgroup)) {
      return in_rounds(cgroup, deadline,
                       [&](Deadline round) { return runtime::cgroup::kill_all(cgroup, round); });
    }
  }
  const auto process = FLUYT_TRY(find_process(info->pid, info->pid_start_time));
  return process ? process->kill(signal) : Result<>();
}

Result<> remove_by_record(const std::string& state_dir, const std::string& id, Deadline deadline) {
  const auto info = FLUYT_TRY(find_record(state_dir, id));
  if (!info) return {};
  FLUYT_TRY(end_cgroup(cgroup_of(*info), deadline));
  if (const auto runtime = FLUYT_TRY(find_runtime(state_dir))) {
    delete_with_program(*runtime, id, Deadline::after_ms(kDeleteMs))
        .ignore("a program that is gone keeps nothing");
  }
  for (const std::string_view suffix : {kSpecSuffix, kRecordSuffix}) {
    FLUYT_TRY(sys::remove_file(sys::kCwd, cat(state_dir, "/", kContainerFolder, "/", id, suffix)));
  }
  return sys::remove_tree(cat(state_dir, "/", kContainerFolder, "/", id, kCallSuffix));
}

Result<bool> lacks_monitor(const std::string& state_dir) {
  return lacks_process(cat(state_dir, "/", kMonitorFile));
}

Result<bool> lacks_pod_init(const std::string& state_dir) {
  return lacks_process(cat(state_dir, "/", kPodInitFile));
}

Result<> clean_after(const std::string& state_dir, Deadline deadline) {
  const std::string boot = FLUYT_TRY(sys::boot_id());
  const auto monitor = FLUYT_TRY(find_process_record(cat(state_dir, "/", kMonitorFile)));
  const auto pod_init = FLUYT_TRY(find_process_record(cat(state_dir, "/", kPodInitFile)));
  const auto runtime = FLUYT_TRY(find_runtime(state_dir));
  const bool same_boot = monitor && monitor->boot_id == boot;

  // One that cannot be ended must not keep the others alive; the first is told.
  Result<> all;
  const auto keep_first = [&all](Result<> one) {
    if (all.ok()) all = std::move(one);
  };
  const auto named = [](Result<> one, const std::string& name) -> Result<> {
    FLUYT_TRY_CONTEXT(std::move(one), name);
    return {};
  };
  // The monitor first: while it lives it would tell of what we do here, and start more.
  if (monitor && monitor->pid == 0) {
    keep_first(named(end_cgroup(cgroup_of(*monitor), deadline), "monitor"));
  } else if (same_boot) {
    keep_first(named(end_process(monitor->pid, monitor->start_time, deadline), "monitor"));
  }
  for (const ContainerInfo& info : FLUYT_TRY(read_records(state_dir))) {
    const std::string name = cat("container ", info.id);
    auto ended = named(end_cgroup(cgroup_of(info), deadline), name);
    const bool unkillable = !ended.ok();
    keep_first(std::move(ended));
    if (same_boot && !unkillable && info.state != ContainerState::kExited)
      keep_first(named(end_process(info.pid, info.pid_start_time, deadline), name));
    if (runtime) {
      delete_with_program(*runtime, info.id, Deadline::after_ms(kDeleteMs))
          .ignore(
              "its processes and its cgroup are gone; a program that is gone too keeps nothing");
    }
  }
  if (pod_init && pod_init->pid != 0 && pod_init->boot_id == boot)
    keep_first(named(end_process(pod_init->pid, pod_init->start_time, deadline), "pod init"));
  if (pod_init) keep_first(named(end_cgroup(cgroup_of(*pod_init), deadline), "pod init"));
  if (monitor) keep_first(named(end_cgroup(cgroup_of(*monitor), deadline), "monitor"));
  FLUYT_TRY(std::move(all));
  FLUYT_TRY(unmount_namespaces(state_dir));
  return sys::remove_tree(state_dir);
}

}  // namespace fluyt::monitor
