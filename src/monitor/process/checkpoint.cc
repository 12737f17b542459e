#include <utility>

#include "base/strings.h"
#include "monitor/process/monitor.h"
#include "sys/file.h"

namespace fluyt::monitor {

namespace {

// CRIU cannot be ended while it holds the container's processes: their memory has code of its own
// in it then. So the worker is not given up at the caller's deadline but much later, and whoever
// asked is answered by a timer.
constexpr int64_t kPatienceMs = 3'600'000;

}  // namespace

void Monitor::handle(const RequestKey& key, wire::Checkpoint verb, Fds /*fds*/) {
  auto found = get_container(verb.id);
  if (!found.ok()) return done(key, std::move(found).error());
  Container& container = **found;
  if (container.info.state != ContainerState::kRunning || container.reaped ||
      container.being_removed) {
    return done(
        key, Error(Code::kFailedPrecondition, cat("container ", verb.id, ": it is not running")));
  }
  if (!verb.folder.starts_with('/') || !verb.bundle.starts_with('/')) {
    return done(key, Error(Code::kInvalidArgument,
                           "checkpoint: folder and bundle: expected absolute paths"));
  }
  if (container.checkpointing) {
    return done(key, Error(Code::kFailedPrecondition,
                           cat("container ", verb.id, ": a checkpoint is under way")));
  }
  const Deadline deadline = Deadline::after_ms(verb.deadline_ms);
  WorkerJob job;
  job.body = [this, &container, &verb, deadline](const Announce&) -> Result<WorkerReply> {
    auto dumped = runtime_->checkpoint(container.info, verb);
    // Nobody waits any more: what was written is nobody's.
    if (deadline.passed()) {
      sys::remove_tree(verb.folder).ignore("the next start of fluytd sweeps it");
    }
    if (!dumped.ok()) return std::move(dumped).error();
    return WorkerReply{};
  };
  job.deadline_ms = kPatienceMs;
  job.done = [this, key, id = verb.id](Result<WorkerReply> reply, const std::string&) {
    const auto at = containers_.find(id);
    if (at != containers_.end()) {
      at->second->checkpointing = false;
      if (!at->second->reaped) {
        hold_cgroup(*at->second);
        persist(*at->second);
        tell(wire::Event{at->second->info});
      }
      loop_.cancel(at->second->checkpoint_timer);
    }
    done(key, reply.ok() ? Result<>() : Result<>(std::move(reply).error()));
  };
  // CRIU freezes the cgroup, and expects nobody in there but the container's.
  release_cgroup(container);
  auto started = workers_.start(std::move(job));
  if (!started.ok()) return done(key, std::move(started).error());
  container.checkpointing = true;
  container.checkpoint_timer = loop_.after_ms(verb.deadline_ms, [this, key, id = verb.id] {
    done(key, Error(Code::kDeadlineExceeded,
                    cat("container ", id, ": the checkpoint was not written in time")));
  });
}

}  // namespace fluyt::monitor
