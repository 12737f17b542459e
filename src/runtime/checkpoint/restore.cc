#include <fcntl.h>
#include <signal.h>
#include <unistd.h>

#include <algorithm>
#include <set>

#include "base/strings.h"
#include "base/time.h"
#include "runtime/checkpoint/archive.h"
#include "runtime/checkpoint/checkpoint.h"
#include "runtime/checkpoint/criu.h"
#include "runtime/checkpoint/folders.h"
#include "runtime/checkpoint/stage.h"
#include "runtime/checkpoint/verify.h"
#include "runtime/hooks.h"
#include "runtime/plan.h"
#include "runtime/prepare.h"
#include "sys/file.h"
#include "sys/process.h"

namespace fluyt::runtime::checkpoint {

namespace {

constexpr const char* kLog = "restore.log";
constexpr int64_t kPatienceMs = 10'000;
constexpr uint64_t kStopSignals =
    1ULL << (SIGSTOP - 1) | 1ULL << (SIGTSTP - 1) | 1ULL << (SIGTTIN - 1) | 1ULL << (SIGTTOU - 1);

// "1 (name) S 2 ...": the state's letter and the parent.
struct Stat {
  char state = 'X';
  pid_t parent = 0;
};
Stat read_stat(pid_t pid) {
  const std::string text = sys::read_file(cat("/proc/", pid, "/stat"), 8192).value_or("");
  const size_t end = text.rfind(')');
  if (end == std::string::npos) return {};
  const auto words = split_words(std::string_view(text).substr(end + 1));
  if (words.size() < 2) return {};
  return {words[0][0], parse_number<pid_t>(words[1]).value_or(0)};
}
bool has_ended(const Stat& stat) { return stat.state == 'Z' || stat.state == 'X'; }

bool stop_is_pending(pid_t pid) {
  const std::string text = sys::read_file(cat("/proc/", pid, "/status"), 1U << 16U).value_or("");
  for (const std::string_view line : split(text, '\n')) {
    if (!line.starts_with("ShdPnd:")) continue;
    return (parse_number<uint64_t>(trim(line.substr(7)), 16).value_or(0) & kStopSignals) != 0;
  }
  return false;
}

// What would starve CRIU comes when it is done.
oci::Resources without_ceilings(const oci::Resources& resources) {
  oci::Resources out = resources;
  out.memory.reset();
  out.pids_limit.reset();
  out.unified.clear();
  return out;
}

// One restore, from the first notification to the moment when the processes run.
class Restore {
 public:
  Restore(const RestoreRequest& request, const Plan& plan, const HostSide& host,
          const Archive& archive, Created& created)
      : request_(request), plan_(plan), host_(host), archive_(archive), created_(created) {}

  Result<> notified(const Response& told, std::vector<sys::Fd>& fds, const Criu& criu);
  /// CRIU has let go, and every process stands still by a signal of ours.
  Result<> finish(pid_t init);

 private:
  Result<std::vector<pid_t>> members() const;
  Result<> hold(const Criu& criu);
  Result<> wait_until_held();
  Result<> run_hooks_of(pid_t init);
  Result<> let_go();

  const RestoreRequest& request_;
  const Plan& plan_;
  const HostSide& host_;
  const Archive& archive_;
  Created& created_;
  std::set<pid_t> stopped_before_;  // in the archive: they stay so
  bool held_ = false;
};

Result<std::vector<pid_t>> Restore::members() const {
  std::vector<pid_t> out = FLUYT_TRY(cgroup::pids(created_.cgroup));
  std::erase_if(out, [](pid_t pid) { return has_ended(read_stat(pid)); });
  return out;
}

Result<> Restore::notified(const Response& told, std::vector<sys::Fd>& fds, const Criu& criu) {
  // CRIU has looked at its host by now, devices included; it has made nothing of the container yet.
  if (told.script == "pre-restore") {
    FLUYT_TRY_CONTEXT(cgroup::apply(created_.cgroup, without_ceilings(plan_.resources)),
                      "linux.resources");
    return {};
  }
  if (told.script == "setup-namespaces") return run_hooks_of(told.script_pid);
  if (told.script == "orphan-pts-master") {
    if (fds.size() != 1) return Error(Code::kInternal, "criu gave no terminal");
    created_.console = std::move(fds[0]);
    return {};
  }
  // Everything is restored, credentials and filters too, and nothing has run yet.
  if (told.script == "pre-resume") return hold(criu);
  return {};
}

Result<> Restore::run_hooks_of(pid_t init) {
  oci::State state;
  state.id = request_.id;
  state.status = "creating";
  state.pid = init;
  state.bundle = request_.bundle;
  state.annotations = request_.spec.annotations;
  const std::string json = oci::to_json(state);
  const HookPlace place{.cwd = request_.bundle, .stop = {.fd = request_.stop}};
  FLUYT_TRY(run_hooks(plan_.hooks.prestart, "prestart", json, place));
  return run_hooks(plan_.hooks.create_runtime, "createRuntime", json, place);
}

// CRIU lets the processes go without another word: the signal makes them stand still before they
// execute a single instruction of theirs.
Result<> Restore::hold(const Criu& criu) {
  for (const pid_t pid : FLUYT_TRY(members())) {
    if (pid == criu.process().pid() || read_stat(pid).parent == criu.process().pid()) continue;
    if (stop_is_pending(pid)) stopped_before_.insert(pid);
    FLUYT_TRY(FLUYT_TRY(sys::Process::open(pid)).kill(SIGSTOP));
  }
  held_ = true;
  return {};
}

Result<> Restore::wait_until_held() {
  if (!held_) return Error(Code::kInternal, "criu resumed the processes without a notification");
  const Deadline deadline = Deadline::after_ms(kPatienceMs);
  for (int64_t pause_us = 50;; pause_us = std::min<int64_t>(pause_us * 2, 5000)) {
    const auto pids = FLUYT_TRY(members());
    const bool still = std::all_of(pids.begin(), pids.end(),
                                   [](pid_t pid) { return read_stat(pid).state == 'T'; });
    if (still && !pids.empty()) return {};
    if (pids.empty()) return Error(Code::kFailedPrecondition, "its processes ended at once");
    if (deadline.passed())
      return Error(Code::kDeadlineExceeded, "the restored processes do not stand still");
    usleep(static_cast<useconds_t>(pause_us));
  }
}

Result<> Restore::finish(pid_t init) {
  FLUYT_TRY(wait_until_held());
  created_.init = FLUYT_TRY(sys::Process::open(init));
  created_.start_time = FLUYT_TRY(sys::start_time_of(init));
  const auto pids = FLUYT_TRY(members());
  if (read_stat(init).parent != getpid() || std::find(pids.begin(), pids.end(), init) == pids.end())
    return Error(Code::kInternal, cat("criu's answer: ", init, " is not the container's process"));
  FLUYT_TRY(verify(plan_, host_, archive_, init, pids));
  for (const pid_t pid : pids) FLUYT_TRY(verify_filters(plan_, pid));
  // CRIU has needed more memory and processes than the container.
  FLUYT_TRY_CONTEXT(cgroup::apply(created_.cgroup, plan_.resources), "linux.resources");
  if (request_.on_ready) FLUYT_TRY(request_.on_ready(created_));
  // Behind what on_ready writes down: until then it is CRIU's process by which whoever ends the
  // rest of a restore that was cut short knows the cgroup.
  cgroup::mark(created_.cgroup, {.pid = init, .start_time = created_.start_time});
  return let_go();
}

Result<> Restore::let_go() {
  for (const pid_t pid : FLUYT_TRY(members())) {
    if (stopped_before_.count(pid) != 0) continue;
    FLUYT_TRY(FLUYT_TRY(sys::Process::open(pid)).kill(SIGCONT));
  }
  return {};
}

// The container's cgroup until the restore has succeeded.
class Guard {
 public:
  explicit Guard(const Created& created) : created_(&created) {}
  Guard(const Guard&) = delete;
  Guard& operator=(const Guard&) = delete;
  ~Guard() {
    if (created_ == nullptr) return;
    const Deadline deadline = Deadline::after_ms(kPatienceMs);
    cgroup::kill_all(created_->cgroup, deadline).ignore("the error that led here is told");
    if (created_->init.valid())
      created_->init.wait(deadline).ignore("the error that led here is told");
    cgroup::end(created_->cgroup, deadline).ignore("the error that led here is told");
  }
  void keep() { created_ = nullptr; }

 private:
  const Created* created_;
};

Result<> check_plan(const Plan& plan) {
  if (!plan.namespaces.has(CLONE_NEWNS)) {
    return Error(Code::kUnimplemented,
                 "linux.namespaces: no mount namespace: such a container cannot be restored");
  }
  if (plan.intel_rdt)
    return Error(Code::kUnimplemented, "linux.intelRdt: not for a container that is restored");
  for (const NamespacePlan::Join& join : plan.namespaces.joins) {
    if (join.type == CLONE_NEWUSER || join.type == CLONE_NEWNS || join.type == CLONE_NEWCGROUP) {
      return Error(Code::kUnimplemented,
                   cat("linux.namespaces[", join.index,
                       "].path: criu cannot restore into a namespace of this type"));
    }
  }
  if (plan.seccomp && plan.seccomp->notifies) {
    return Error(Code::kUnimplemented,
                 "linux.seccomp: SCMP_ACT_NOTIFY: a listener cannot be restored");
  }
  return {};
}

// "2:cpu,cpuacct:/path": where CRIU, in the container's cgroup by now, lies.
Result<> add_cgroup_roots(pid_t pid, CriuOptions& options) {
  if (options.cgroup_mode == CgroupMode::kIgnore) return {};
  const std::string text = FLUYT_TRY(sys::read_file(cat("/proc/", pid, "/cgroup"), 1U << 16U));
  for (const std::string_view line : split(text, '\n')) {
    const auto parts = split(line, ':');
    if (parts.size() >= 3)
      options.cgroup_roots.emplace_back(parts[1],
                                        line.substr(parts[0].size() + parts[1].size() + 2));
  }
  return {};
}

Result<CriuOptions> make_options(const RestoreRequest& request, const Folders& folders,
                                 const StageRequest& stage, pid_t criu) {
  CriuOptions options = options_of(request.settings, folders);
  options.log_file = kLog;
  options.restore_sibling = true;
  options.evasive_devices = true;
  options.orphan_pts_master = true;
  describe_stage(stage, options);
  FLUYT_TRY(add_cgroup_roots(criu, options));
  return options;
}

// CRIU is in the container's cgroup by now, and is what is to be ended if we are cut short.
Result<> tell_made(const RestoreRequest& request, const Created& created, const Criu& criu) {
  const pid_t pid = criu.process().pid();
  const uint64_t start_time = FLUYT_TRY(sys::start_time_of(pid));
  cgroup::mark(created.cgroup, {.pid = pid, .start_time = start_time});
  if (!request.on_made) return {};
  return request.on_made({.pid = pid, .start_time = start_time, .cgroup = created.cgroup});
}

}  // namespace

Result<Created> restore(const RestoreRequest& request) {
  const Plan plan = FLUYT_TRY(make_plan({.id = request.id,
                                         .bundle = request.bundle,
                                         .spec = &request.spec,
                                         .overlay_root = nullptr,
                                         .trees = nullptr},
                                        FLUYT_TRY(host_facts(Labels::kAsked))));
  FLUYT_TRY(check_plan(plan));
  FLUYT_TRY(find_criu());
  const Folders folders = FLUYT_TRY(open_folders(request.settings, FolderUse::kExpect));
  const std::string said = FLUYT_TRY_CONTEXT(
      sys::read_file(folders.images, kArchiveFile, 1U << 20U), "option --image-path");
  const Archive archive =
      FLUYT_TRY_CONTEXT(parse_archive(said), cat(folders.images_path, "/", kArchiveFile));
  HostSide side = FLUYT_TRY(prepare(plan));
  const cgroup::Host host = FLUYT_TRY(cgroup::probe());
  Created created;
  created.warnings = plan.warnings;
  created.cgroup = FLUYT_TRY_CONTEXT(
      cgroup::locate(host, plan.cgroups_path, plan.id, request.cgroup_driver), "linux.cgroupsPath");
  const cgroup::Hold hold =
      FLUYT_TRY(cgroup::make(host, created.cgroup, plan.resources, request.spec.annotations));
  Guard guard(created);
  side.cgroups = FLUYT_TRY(prepare_cgroups(plan, host, created.cgroup));
  const StageRequest stage{
      .plan = plan,
      .host = side,
      .archive = archive,
      .stdio = request.stdio,
      .new_cgroup_namespace =
          plan.namespaces.new_cgroup && request.settings.cgroup_mode == CgroupMode::kIgnore,
      .stop = {.fd = request.stop},
      .enter_cgroup = [&](pid_t pid) { return cgroup::join(created.cgroup, pid); }};
  Criu criu = FLUYT_TRY(start_on_stage(stage));
  FLUYT_TRY(criu.check_version());
  FLUYT_TRY(tell_made(request, created, criu));
  const CriuOptions options =
      FLUYT_TRY(make_options(request, folders, stage, criu.process().pid()));
  Restore restoring(request, plan, side, archive, created);
  const Response done = FLUYT_TRY(criu.request(
      RequestType::kRestore, options,
      [&](const Response& told, std::vector<sys::Fd>& fds) {
        return restoring.notified(told, fds, criu);
      },
      folders.log(kLog)));
  FLUYT_TRY(criu.finish());
  FLUYT_TRY(restoring.finish(done.restored_pid));
  guard.keep();
  return created;
}

}  // namespace fluyt::runtime::checkpoint
