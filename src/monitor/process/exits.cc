#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <csignal>
#include <utility>

#include "base/strings.h"
#include "base/time.h"
#include "monitor/process/monitor.h"
#include "sys/file.h"

namespace fluyt::monitor {

namespace {

// How long output is waited for once the container has ended and something else holds its pipes.
constexpr int64_t kDrainMs = 2'000;
constexpr int64_t kKillMs = 10'000;
constexpr size_t kKeptExecs = 64;
constexpr size_t kMaxChildrenBytes = 1UL << 20U;

}  // namespace

void Monitor::on_children() {
  std::array<char, 1024> signals;
  while (::read(children_.raw(), signals.data(), signals.size()) > 0) {
  }
  while (true) {
    siginfo_t info{};
    const int result = waitid(P_ALL, 0, &info, WEXITED | WNOHANG | __WALL);
    if (result != 0 && errno == EINTR) continue;
    if (result != 0 || info.si_pid == 0) return;
    on_exit(info.si_pid, info.si_code == CLD_EXITED ? sys::ExitStatus{.code = info.si_status}
                                                    : sys::ExitStatus{.signal = info.si_status});
  }
}

void Monitor::on_exit(pid_t pid, sys::ExitStatus status) {
  if (workers_.on_exit(pid, status)) return;
  if (const auto at = execs_.find(pid); at != execs_.end()) {
    const Exec exec = std::move(at->second);
    execs_.erase(at);
    return on_exec_exit(exec, status);
  }
  if (sandbox_ && sandbox_->pod_init && sandbox_->pod_init->pid() == pid) {
    sandbox_->pod_init.reset();
    if (ending_) return continue_shutdown();
    log("the pod init has ended: the sandbox's shared PID namespace is gone");
    return tell(wire::Event{wire::PodInitEnded{}});
  }
  for (const auto& [id, container] : containers_) {
    // Killed with the rest of the cgroup.
    if (container->info.cgroup_holder == pid) {
      container->info.cgroup_holder = 0;
      return;
    }
    if (container->info.pid == pid && !container->reaped && !container->early_exit)
      return on_container_exit(*container, status);
  }
  // An orphan that we adopted, unless a worker is about to tell us of it.
  workers_.keep_exit(pid, status);
}

void Monitor::take_early_exit(pid_t pid) {
  if (const auto status = workers_.take_exit(pid)) on_exit(pid, *status);
}

void Monitor::on_container_exit(Container& container, sys::ExitStatus status) {
  if (container.starting) {
    container.early_exit = status;
    return;  // whether it was started is told first
  }
  container.reaped = true;
  const std::string id = container.info.id;
  // Whether it ever ran is in the pipe.
  if (container.report.valid() && !container.gate.valid()) on_report(id);
  if (container.report.valid()) {
    finish_start(container, Error(Code::kFailedPrecondition,
                                  cat("container ", id, ": it was ended before its program ran")));
  }
  container.info.exit_code = status.shell_code();
  container.info.finished_at = now_unix_ns();
  // Before anybody can remove the cgroup, and before the state is told.
  count_oom(container);
  release_cgroup(container);
  // With a PID namespace of its own the kernel has killed the rest already.
  if (!container.own_pid_namespace) kill_everything(container);
  if (container.io->drain()) return finish_exit(id);
  container.drain_timer = loop_.after_ms(kDrainMs, [this, id] { finish_exit(id); });
}

// Its output has ended, or has been waited for long enough. Also called when a container closes its
// outputs and runs on: then there is nothing to finish yet.
void Monitor::finish_exit(const std::string& id) {
  const auto at = containers_.find(id);
  if (at == containers_.end()) return;
  Container& container = *at->second;
  if (!container.reaped || container.info.state == ContainerState::kExited) return;
  loop_.cancel(container.drain_timer);
  container.io->drain();
  container.io->close();
  if (container.oom) loop_.epoll().remove(container.oom->fd());
  container.oom.reset();
  container.info.log_bytes_dropped = container.io->dropped_bytes();
  container.info.state = ContainerState::kExited;
  container.init = sys::Process();
  persist(container);
  tell(wire::Event{container.info});
  if (container.cgroup_removed) finish_remove(id);
}

void Monitor::on_exec_exit(const Exec& exec, sys::ExitStatus status) {
  ended_execs_.push_back({exec.id, exec.container_id, exec.process.pid(), status.shell_code()});
  if (ended_execs_.size() > kKeptExecs) ended_execs_.pop_front();
  tell(wire::Event{wire::ExecExited{exec.id, status.shell_code()}});
}

// A worker's children stay in its session until just before execve.
void Monitor::kill_strays() {
  const pid_t own = getpid();
  auto children = sys::read_file(cat("/proc/self/task/", own, "/children"), kMaxChildrenBytes);
  if (!children.ok()) return log(children.error().message());
  for (const std::string_view word : split_words(*children)) {
    const auto pid = parse_number<pid_t>(word);
    if (!pid || workers_.knows(*pid) || execs_.contains(*pid)) continue;
    if (!workers_.was_given_up(getsid(*pid))) continue;
    const bool known = std::any_of(containers_.begin(), containers_.end(), [&](const auto& entry) {
      return entry.second->info.pid == *pid && !entry.second->reaped;
    });
    // Our child, not reaped: the number is still its own.
    if (!known) ::kill(*pid, SIGKILL);
  }
}

// In a worker, for on v1 it takes rounds of freezing and killing.
void Monitor::kill_everything(const Container& container) {
  WorkerJob job;
  job.body = [cgroup = container.cgroup()](const Announce&) -> Result<WorkerReply> {
    FLUYT_TRY(runtime::cgroup::kill_all(cgroup, Deadline::after_ms(kKillMs)));
    return WorkerReply{};
  };
  job.deadline_ms = kKillMs + 1'000;
  job.done = [this, id = container.info.id](Result<WorkerReply> reply, const std::string&) {
    if (!reply.ok()) log(cat("kill of ", id, ": ", reply.error().message()));
  };
  workers_.start(std::move(job)).ignore("remove kills again");
}

}  // namespace fluyt::monitor
