#include <csignal>
#include <utility>

#include "base/strings.h"
#include "monitor/process/monitor.h"

namespace fluyt::monitor {

namespace {

constexpr int64_t kSignalMs = 9'000;

Result<> signal_all(const runtime::CgroupRecord& cgroup, int signal) {
  for (const pid_t pid : FLUYT_TRY(runtime::cgroup::pids(cgroup))) {
    auto process = sys::Process::open(pid);
    if (process.ok()) FLUYT_TRY(process->kill(signal));
  }
  return {};
}

}  // namespace

void Monitor::handle(const RequestKey& key, wire::Signal verb, Fds /*fds*/) {
  auto found = get_container(verb.id);
  if (!found.ok()) return done(key, std::move(found).error());
  Container& container = **found;
  if (verb.signal < 1 || verb.signal > SIGRTMAX) {
    return done(key, Error(Code::kInvalidArgument,
                           cat("signal ", verb.signal, ": expected 1 to ", SIGRTMAX)));
  }
  if (!container.reaped && !verb.all && verb.signal != SIGKILL && !runtime_->signals_by_pidfd())
    return signal_by_call(key, container, verb.signal);
  if (!container.reaped && (!verb.all || verb.signal == SIGKILL)) {
    auto sent = container.init.kill(verb.signal);
    if (!verb.all || !sent.ok()) return done(key, std::move(sent));
  }
  if (!verb.all || container.info.state == ContainerState::kExited) return done(key, {});
  // What holds a scope is killed with the rest.
  if (!container.reaped && verb.signal == SIGKILL) count_oom(container);
  WorkerJob job;
  job.body = [cgroup = container.cgroup(),
              signal = verb.signal](const Announce&) -> Result<WorkerReply> {
    if (signal == SIGKILL) {
      FLUYT_TRY(runtime::cgroup::kill_all(cgroup, Deadline::after_ms(kSignalMs - 1'000)));
    } else {
      FLUYT_TRY(signal_all(cgroup, signal));
    }
    return WorkerReply{};
  };
  job.deadline_ms = kSignalMs;
  job.done = [this, key](Result<WorkerReply> reply, const std::string&) {
    done(key, reply.ok() ? Result<>() : Result<>(std::move(reply).error()));
  };
  auto started = workers_.start(std::move(job));
  if (!started.ok()) done(key, std::move(started).error());
}

// What a program's first process does with a signal is not always what its pid's would.
void Monitor::signal_by_call(const RequestKey& key, const Container& container, int signal) {
  WorkerJob job;
  job.body = [this, id = container.info.id, signal](const Announce&) -> Result<WorkerReply> {
    FLUYT_TRY(runtime_->signal(id, signal, Deadline::after_ms(kSignalMs - 1'000)));
    return WorkerReply{};
  };
  job.deadline_ms = kSignalMs;
  job.done = [this, key, id = container.info.id, signal](Result<WorkerReply> reply,
                                                         const std::string&) {
    const auto at = containers_.find(id);
    const bool ended = at == containers_.end() || at->second->reaped || at->second->early_exit;
    if (reply.ok() || ended) return done(key, {});
    // A program that is gone or broken must not keep a container from being stopped.
    log(cat("signal to ", id, ": ", reply.error().message(), ": sent to its first process"));
    done(key, at->second->init.kill(signal));
  };
  auto started = workers_.start(std::move(job));
  if (!started.ok()) done(key, std::move(started).error());
}

}  // namespace fluyt::monitor
