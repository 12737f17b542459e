#include <unistd.h>

#include <csignal>
#include <utility>

#include "base/strings.h"
#include "monitor/process/monitor.h"

namespace fluyt::monitor {

namespace {

constexpr int64_t kGraceMs = 1'000;
constexpr int64_t kKillMs = 9'000;

// Every process of the container that belongs to the exec's session: what a probe's shell left
// running goes with it.
Result<> kill_session(const runtime::CgroupRecord& cgroup, pid_t session, int signal) {
  for (const pid_t pid : FLUYT_TRY(runtime::cgroup::pids(cgroup))) {
    auto process = sys::Process::open(pid);
    // Asked after the pidfd was opened: the pid is then still the process's.
    if (process.ok() && getsid(pid) == session) FLUYT_TRY(process->kill(signal));
  }
  return {};
}

}  // namespace

void Monitor::handle(const RequestKey& key, wire::Exec verb, Fds fds) {
  auto found = get_container(verb.id);
  if (!found.ok()) return done(key, std::move(found).error());
  const Container& container = **found;
  if (container.info.state != ContainerState::kRunning || container.reaped ||
      container.being_removed) {
    return done(
        key, Error(Code::kFailedPrecondition, cat("container ", verb.id, ": it is not running")));
  }
  const size_t expected =
      1U + (verb.has_in ? 1U : 0U) + (verb.has_out ? 1U : 0U) + (verb.has_err ? 1U : 0U);
  if (fds.size() != expected) {
    return done(key, Error(Code::kInvalidArgument,
                           cat("exec: ", fds.size(), " descriptors, expected ", expected)));
  }
  ExecInput input{.container = container.info, .terminal = verb.terminal};
  size_t next = 0;
  input.process = fds[next++];
  if (verb.has_in) input.in = fds[next++];
  if (verb.has_out) input.out = fds[next++];
  if (verb.has_err) input.err = fds[next++];
  WorkerJob job;
  for (const sys::Fd& fd : fds) job.keep.push_back(fd);
  job.body = [this, &input, ms = verb.deadline_ms](const Announce&) {
    return runtime_->exec(input, Deadline::after_ms(ms));
  };
  job.deadline_ms = verb.deadline_ms + kGraceMs;
  job.makes_children = true;
  job.done = [this, key, id = verb.id](Result<WorkerReply> reply, const std::string&) {
    if (reply.ok()) requests_.note_trace(key, std::move(reply->trace));
    auto started = reply.ok() ? exec_from(std::move(reply).value())
                              : Result<StartedExec>(std::move(reply).error());
    if (!started.ok()) {
      kill_strays();
      return done(key, std::move(started).error());
    }
    const pid_t pid = started->process.pid();
    const uint64_t exec_id = next_exec_++;
    execs_[pid] = Exec{exec_id, id, std::move(started->process)};
    Fds console;
    if (started->console.valid()) console.push_back(std::move(started->console));
    requests_.finish(key, wire::Outcome(wire::ExecAnswer{exec_id, pid}), std::move(console));
    take_early_exit(pid);
  };
  auto started = workers_.start(std::move(job));
  if (!started.ok()) done(key, std::move(started).error());
}

void Monitor::handle(const RequestKey& key, wire::KillExec verb, Fds /*fds*/) {
  std::string container_id;
  pid_t session = 0;
  for (const auto& [pid, exec] : execs_) {
    if (exec.id != verb.exec_id) continue;
    container_id = exec.container_id;
    session = pid;
    auto killed = exec.process.kill(verb.signal);
    if (!killed.ok()) return done(key, std::move(killed));
  }
  for (const EndedExec& ended : ended_execs_) {
    if (ended.id != verb.exec_id) continue;
    container_id = ended.container_id;
    // Under a used-again pid the session is another's.
    session = execs_.contains(ended.session) ? 0 : ended.session;
  }
  const auto at = containers_.find(container_id);
  if (session == 0 || at == containers_.end()) return done(key, {});
  WorkerJob job;
  job.body = [cgroup = at->second->cgroup(), session,
              signal = verb.signal](const Announce&) -> Result<WorkerReply> {
    FLUYT_TRY(kill_session(cgroup, session, signal));
    return WorkerReply{};
  };
  job.deadline_ms = kKillMs;
  job.done = [this, key](Result<WorkerReply> reply, const std::string&) {
    done(key, reply.ok() ? Result<>() : Result<>(std::move(reply).error()));
  };
  auto started = workers_.start(std::move(job));
  if (!started.ok()) done(key, std::move(started).error());
}

}  // namespace fluyt::monitor
