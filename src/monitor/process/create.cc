#include <csignal>
#include <optional>
#include <utility>

#include "base/id.h"
#include "base/strings.h"
#include "base/trace.h"
#include "monitor/process/monitor.h"
#include "sys/file.h"
#include "sys/relabel.h"

namespace fluyt::monitor {

namespace {

// The runtime keeps the deadline itself and cleans up better than we can from outside; this much
// later we end its worker.
constexpr int64_t kGraceMs = 1'000;
constexpr int64_t kUndoMs = 20'000;

Result<> check(const CreateRequest& request, size_t fds) {
  if (!is_valid_container_id(request.id) || request.id.size() > 200) {
    return Error(Code::kInvalidArgument,
                 cat("container ", quote(request.id), ": expected 1 to 200 of [A-Za-z0-9_+.-]"));
  }
  if (fds != 1) return Error(Code::kInvalidArgument, "create: expected one descriptor, the spec's");
  if (request.deadline_ms <= 0)
    return Error(Code::kInvalidArgument, "create.deadline_ms: expected more than 0");
  if (request.log_directory.empty() != request.log_path.empty()) {
    return Error(Code::kInvalidArgument,
                 "create: expected both log_directory and log_path, or none");
  }
  return {};
}

Result<> relabel_all(const std::vector<Relabel>& relabels, Deadline deadline) {
  if (relabels.empty()) return {};
  const trace::Span span("labels");
  std::optional<sys::KeptPlaces> kept;
  for (const Relabel& one : relabels) {
    if (one.of_caller && !kept) kept = FLUYT_TRY_CONTEXT(sys::KeptPlaces::find(), one.what);
    FLUYT_TRY_CONTEXT(sys::relabel(one.path, one.label, one.of_caller ? &*kept : nullptr, deadline),
                      one.what);
  }
  return {};
}

}  // namespace

void Monitor::handle(const RequestKey& key, wire::Create verb, Fds fds) {
  const std::string id = verb.container.id;
  if (auto checked = check(verb.container, fds.size()); !checked.ok())
    return done(key, std::move(checked));
  if (containers_.contains(id) || creating_.contains(id)) {
    return done(key, Error(Code::kAlreadyExists, cat("container ", quote(id), ": there is one")));
  }
  if (undoing_.contains(id)) {
    return done(key, Error(Code::kUnavailable, cat("container ", quote(id),
                                                   ": an earlier create of it is being undone")));
  }
  if (auto joined = check_joined(verb.container); !joined.ok()) return done(key, std::move(joined));
  const sys::FdRef spec = fds[0];
  WorkerJob job;
  job.body = [this, spec,
              &request = verb.container](const Announce& announce) -> Result<WorkerReply> {
    const Deadline deadline = Deadline::after_ms(request.deadline_ms);
    FLUYT_TRY(relabel_all(request.relabels, deadline));
    return runtime_->create(request, spec, deadline, announce);
  };
  job.keep = {spec};
  job.deadline_ms = verb.container.deadline_ms + kGraceMs;
  job.makes_children = true;
  job.done = [this, key, request = verb.container](Result<WorkerReply> reply,
                                                   const std::string& announced) {
    if (reply.ok()) requests_.note_trace(key, std::move(reply->trace));
    auto result = reply.ok() ? created_from(std::move(reply).value())
                             : Result<CreatedContainer>(std::move(reply).error());
    bool given_up = !result.ok() && (result.error().code() == Code::kDeadlineExceeded ||
                                     result.error().code() == Code::kCancelled ||
                                     result.error().code() == Code::kInternal);
    if (auto joined = check_joined(request); result.ok() && !joined.ok()) {
      result = std::move(joined).error();
      given_up = true;
    }
    if (result.ok()) {
      auto added = add_container(request, std::move(result).value());
      result = added.ok() ? Result<CreatedContainer>(CreatedContainer{}) : std::move(added).error();
    }
    if (given_up) undo(request.id, announced);
    created(key, request.id, std::move(result));
  };
  auto started = workers_.start(std::move(job));
  if (!started.ok()) return done(key, std::move(started).error());
  creating_[id] = Creating{*started, {}};
}

// As long as it is not reaped, which is done by this thread alone, no other process has its pid.
Result<> Monitor::check_joined(const CreateRequest& request) const {
  if (request.joins.empty()) return {};
  const auto at = containers_.find(request.joins);
  if (at != containers_.end() && !at->second->reaped) return {};
  return Error(Code::kFailedPrecondition,
               cat("container ", request.id, ": container ", request.joins,
                   ", whose PID namespace it was to join, has ended"));
}

// What a worker that was killed had made has no parent but us, and its cgroup to be found by.
void Monitor::undo(const std::string& id, const std::string& announced) {
  kill_strays();
  WorkerJob job;
  job.body = [this, id, announced](const Announce&) -> Result<WorkerReply> {
    std::vector<runtime::CgroupRecord> others;
    for (const auto& [other, container] : containers_) others.push_back(container->cgroup());
    FLUYT_TRY(runtime_->undo(id, announced, others, Deadline::after_ms(kUndoMs)));
    return WorkerReply{};
  };
  job.deadline_ms = kUndoMs + kGraceMs;
  job.done = [this, id](Result<WorkerReply> undone, const std::string&) {
    if (!undone.ok()) log(cat("undo of create ", id, ": ", undone.error().message()));
    undoing_.erase(id);
    if (ending_) continue_shutdown();
  };
  undoing_.insert(id);
  auto started = workers_.start(std::move(job));
  if (started.ok()) return;
  undoing_.erase(id);
  log(cat("undo of create ", id, ": ", started.error().message()));
}

// The last step: who waited for the container, to have it or to have it gone, is told.
void Monitor::created(const RequestKey& key, const std::string& id,
                      Result<CreatedContainer> result) {
  std::vector<RequestKey> removers;
  if (const auto at = creating_.find(id); at != creating_.end()) {
    removers = std::move(at->second.removers);
    creating_.erase(at);
  }
  if (!result.ok()) {
    done(key, std::move(result).error());
    for (const RequestKey& remover : removers) done(remover, {});
  } else {
    Container& container = *containers_.at(id);
    requests_.finish(key, wire::Outcome(container.info));
    // Its program does not run yet, and its cgroup is on record: who waits is answered before.
    persist(container);
    watch_oom(container);
    take_early_exit(container.info.pid);
    if (!removers.empty()) {
      container.removers = std::move(removers);
      remove_now(container, kUndoMs);
    }
  }
  if (ending_) continue_shutdown();
}

Result<> Monitor::add_container(const CreateRequest& request, CreatedContainer created) {
  auto container = std::make_unique<Container>();
  container->info = std::move(created.info);
  container->own_pid_namespace = created.own_pid_namespace;
  container->log_directory = request.log_directory;
  container->log_path = request.log_path;
  container->init = std::move(created.init);
  container->gated = created.gate.valid();
  container->gate = std::move(created.gate);
  container->report = std::move(created.report);
  container->io = std::make_unique<ContainerIo>(
      loop_, std::move(created.streams), std::move(created.log),
      request.stdin_once ? ContainerIo::StdinOnce::kYes : ContainerIo::StdinOnce::kNo);
  const std::string id = container->info.id;
  if (container->gated) FLUYT_TRY(sys::set_nonblocking(container->report, true));
  FLUYT_TRY(container->io->watch([this, id] { finish_exit(id); }));
  hold_cgroup(*container);
  containers_[id] = std::move(container);
  return {};
}

void Monitor::hold_cgroup(Container& container) {
  auto hold = runtime::cgroup::hold(container.cgroup());
  if (!hold.ok()) {
    log(cat("container ", container.info.id, ": ", hold.error().message(),
            ": an OOM kill may go unseen"));
    return;
  }
  container.info.cgroup_holder = hold->detach();
}

void Monitor::release_cgroup(Container& container) {
  // Our child, and not reaped as long as it is written down here: the number is still its own.
  if (container.info.cgroup_holder > 0) ::kill(container.info.cgroup_holder, SIGKILL);
  container.info.cgroup_holder = 0;
}

void Monitor::count_oom(Container& container) {
  auto kills = runtime::cgroup::oom_kills(container.cgroup());
  if (kills.ok() && *kills > 0) container.info.oom_killed = true;
}

void Monitor::watch_oom(Container& container) {
  auto watch = runtime::cgroup::OomWatch::create(container.cgroup());
  if (!watch.ok()) return;  // no memory controller here
  container.oom.emplace(std::move(watch).value());
  auto added =
      loop_.epoll().add(container.oom->fd(), EPOLLIN, [this, id = container.info.id](uint32_t) {
        const auto at = containers_.find(id);
        if (at == containers_.end() || !at->second->oom) return;
        Container& told = *at->second;
        auto killed = told.oom->take();
        if (!killed.ok() || *killed == false || told.info.oom_killed ||
            told.info.state == ContainerState::kExited)
          return;
        told.info.oom_killed = true;
        persist(told);
        tell(wire::Event{told.info});
      });
  if (!added.ok()) container.oom.reset();
}

}  // namespace fluyt::monitor
