#include <csignal>
#include <utility>

#include "base/strings.h"
#include "monitor/process/monitor.h"

namespace fluyt::monitor {

namespace {
constexpr int64_t kGraceMs = 1'000;
}

void Monitor::handle(const RequestKey& key, wire::Remove verb, Fds /*fds*/) {
  if (const auto at = creating_.find(verb.id); at != creating_.end()) {
    at->second.removers.push_back(key);
    return workers_.cancel(at->second.worker);
  }
  const auto at = containers_.find(verb.id);
  if (at == containers_.end()) return done(key, {});
  at->second->removers.push_back(key);
  remove_now(*at->second, verb.deadline_ms);
}

// Kills by pidfd at once; the cgroup, and whatever hides in it, is a worker's.
void Monitor::remove_now(Container& container, int64_t deadline_ms) {
  if (container.being_removed) return;
  container.being_removed = true;
  if (!container.reaped) count_oom(container);  // what holds a scope is killed with the rest
  if (!container.reaped) container.init.kill(SIGKILL).ignore("it is our child");
  const std::string id = container.info.id;
  WorkerJob job;
  job.body = [this, info = container.info, deadline_ms](const Announce&) -> Result<WorkerReply> {
    return WorkerReply{FLUYT_TRY(runtime_->remove(info, Deadline::after_ms(deadline_ms))), {}};
  };
  job.deadline_ms = deadline_ms + kGraceMs;
  job.done = [this, id](Result<WorkerReply> reply, const std::string&) {
    const auto at = containers_.find(id);
    if (at == containers_.end()) return;
    Container& removed = *at->second;
    if (reply.ok()) {
      for (const RequestKey& key : removed.removers) requests_.note_trace(key, reply->trace);
      if (ending_) ending_->add_trace(reply->trace);
      if (!reply->text.empty()) log(cat("remove of ", id, ": ", reply->text));
      removed.cgroup_removed = true;
      if (removed.info.state == ContainerState::kExited) finish_remove(id);
      return;  // else its exit is on its way
    }
    // It stays and can be asked for again.
    removed.being_removed = false;
    for (const RequestKey& key : std::exchange(removed.removers, {})) {
      done(key, Error(reply.error()).add_context(cat("container ", id)));
    }
  };
  auto started = workers_.start(std::move(job));
  if (started.ok()) return;
  container.being_removed = false;
  for (const RequestKey& key : std::exchange(container.removers, {})) done(key, started.error());
}

void Monitor::finish_remove(const std::string& id) {
  const auto at = containers_.find(id);
  if (at == containers_.end()) return;
  forget_files(options_.state_dir, id);
  const std::vector<RequestKey> removers = std::move(at->second->removers);
  // Its handlers may be on the stack.
  loop_.defer([gone = std::shared_ptr<Container>(std::move(at->second))] {});
  containers_.erase(at);
  for (const RequestKey& key : removers) done(key, {});
  if (ending_) continue_shutdown();
}

}  // namespace fluyt::monitor
