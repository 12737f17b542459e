#include <utility>

#include "base/strings.h"
#include "monitor/process/monitor.h"

/// attach, resize, reopen_log, update: what a running container is asked besides.
namespace fluyt::monitor {

namespace {
constexpr int64_t kPromptMs = 9'000;
}

void Monitor::handle(const RequestKey& key, wire::Attach verb, Fds fds) {
  auto found = get_container(verb.id);
  if (!found.ok()) return done(key, std::move(found).error());
  Container& container = **found;
  const size_t expected =
      (verb.has_in ? 1U : 0U) + (verb.has_out ? 1U : 0U) + (verb.has_err ? 1U : 0U);
  if (fds.size() != expected) {
    return done(key, Error(Code::kInvalidArgument,
                           cat("attach: ", fds.size(), " descriptors, expected ", expected)));
  }
  if (container.reaped) {
    return done(key,
                Error(Code::kFailedPrecondition, cat("container ", verb.id, ": it has ended")));
  }
  ContainerIo::AttachFds attach;
  size_t next = 0;
  if (verb.has_in) attach.in = std::move(fds[next++]);
  if (verb.has_out) attach.out = std::move(fds[next++]);
  if (verb.has_err) attach.err = std::move(fds[next++]);
  done(key, container.io->attach(std::move(attach)));
}

void Monitor::handle(const RequestKey& key, wire::Resize verb, Fds /*fds*/) {
  auto found = get_container(verb.id);
  if (!found.ok()) return done(key, std::move(found).error());
  done(key, (*found)->io->resize(verb.height, verb.width));
}

// The file is opened by a worker, for its folder may hang; until it comes, the old one is written.
void Monitor::handle(const RequestKey& key, wire::ReopenLog verb, Fds /*fds*/) {
  auto found = get_container(verb.id);
  if (!found.ok()) return done(key, std::move(found).error());
  const Container& container = **found;
  if (container.log_path.empty()) {
    return done(key,
                Error(Code::kFailedPrecondition, cat("container ", verb.id, ": it has no log")));
  }
  // Of one that has ended too: whoever has renamed the old one waits for the new one's name.
  WorkerJob job;
  job.body = [&container](const Announce&) -> Result<WorkerReply> {
    WorkerReply reply;
    reply.fds.push_back(FLUYT_TRY(open_log(container.log_directory, container.log_path)));
    return reply;
  };
  job.deadline_ms = kPromptMs;
  job.done = [this, key, id = verb.id](Result<WorkerReply> reply, const std::string&) {
    if (!reply.ok()) return done(key, std::move(reply).error());
    const auto at = containers_.find(id);
    if (at != containers_.end() && !reply->fds.empty())
      at->second->io->replace_log(std::move(reply->fds[0]));
    done(key, {});
  };
  auto started = workers_.start(std::move(job));
  if (!started.ok()) done(key, std::move(started).error());
}

void Monitor::handle(const RequestKey& key, wire::Update verb, Fds fds) {
  auto found = get_container(verb.id);
  if (!found.ok()) return done(key, std::move(found).error());
  const Container& container = **found;
  if (fds.size() != 1)
    return done(key,
                Error(Code::kInvalidArgument, "update: expected one descriptor, the resources'"));
  if (container.reaped) {
    return done(key,
                Error(Code::kFailedPrecondition, cat("container ", verb.id, ": it has ended")));
  }
  WorkerJob job;
  job.keep = {fds[0]};
  job.body = [this, &container, resources = fds[0].ref()](const Announce&) -> Result<WorkerReply> {
    FLUYT_TRY(runtime_->update(container.info, resources, Deadline::after_ms(kPromptMs - 1'000)));
    return WorkerReply{};
  };
  job.deadline_ms = kPromptMs;
  job.done = [this, key](Result<WorkerReply> reply, const std::string&) {
    done(key, reply.ok() ? Result<>() : Result<>(std::move(reply).error()));
  };
  auto started = workers_.start(std::move(job));
  if (!started.ok()) done(key, std::move(started).error());
}

}  // namespace fluyt::monitor
