#include <unistd.h>

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
constexpr size_t kMaxReportBytes = 16UL << 10U;
constexpr int64_t kGraceMs = 1'000;
}  // namespace

void Monitor::handle(const RequestKey& key, wire::Start verb, Fds /*fds*/) {
  auto found = get_container(verb.id);
  if (!found.ok()) return done(key, std::move(found).error());
  Container& container = **found;
  if (container.info.state == ContainerState::kRunning)
    return requests_.finish(key, wire::Outcome(container.info));
  if (container.reaped || container.being_removed) {
    return done(key,
                Error(Code::kFailedPrecondition, cat("container ", verb.id, ": it has ended")));
  }
  container.starters.push_back(key);
  if (!container.gated) return start_by_call(container, verb.deadline_ms);
  if (!container.gate.valid()) return;  // it is being started: this request waits with the first
  auto watched = loop_.epoll().add(container.report, EPOLLIN,
                                   [this, id = verb.id](uint32_t) { on_report(id); });
  if (!watched.ok()) return finish_start(container, std::move(watched));
  // A container that was killed meanwhile has closed its side; its exit answers then.
  sys::write_all(container.gate, "g").ignore("EPIPE: the exit tells more");
  container.gate.reset();
  container.start_timer = loop_.after_ms(verb.deadline_ms, [this, id = verb.id] {
    const auto at = containers_.find(id);
    if (at == containers_.end()) return;
    at->second->init.kill(SIGKILL).ignore("it is our child");
    finish_start(*at->second, Error(Code::kDeadlineExceeded,
                                    cat("container ", id, ": its program did not start in time")));
  });
}

void Monitor::start_by_call(Container& container, int64_t deadline_ms) {
  if (container.starting) return;  // this request waits with the first
  const std::string id = container.info.id;
  WorkerJob job;
  job.body = [this, id, deadline_ms](const Announce&) -> Result<WorkerReply> {
    FLUYT_TRY(runtime_->start(id, Deadline::after_ms(deadline_ms)));
    return WorkerReply{};
  };
  job.deadline_ms = deadline_ms + kGraceMs;
  job.done = [this, id](Result<WorkerReply> reply, const std::string&) {
    const auto at = containers_.find(id);
    if (at == containers_.end()) return;
    Container& started = *at->second;
    started.starting = false;
    if (!reply.ok()) {
      // It waits to be started for ever else.
      started.info.message = reply.error().message();
      started.init.kill(SIGKILL).ignore("it is our child");
    }
    finish_start(started, reply.ok() ? Result<>() : Result<>(std::move(reply).error()));
    if (const auto status = std::exchange(started.early_exit, std::nullopt))
      on_container_exit(started, *status);
  };
  container.starting = true;
  auto worker = workers_.start(std::move(job));
  if (worker.ok()) return;
  container.starting = false;
  finish_start(container, std::move(worker).error());
}

// End of file without a word: execve has closed the pipe. A sentence: why it could not be.
void Monitor::on_report(const std::string& id) {
  const auto at = containers_.find(id);
  if (at == containers_.end() || !at->second->report.valid()) return;
  Container& container = *at->second;
  std::array<char, 4096> buffer;
  while (true) {
    const ssize_t got = ::read(container.report.raw(), buffer.data(), buffer.size());
    if (got < 0 && errno == EINTR) continue;
    if (got < 0 && errno == EAGAIN) return;
    if (got <= 0) break;
    if (container.report_text.size() < kMaxReportBytes)
      container.report_text.append(buffer.data(), static_cast<size_t>(got));
  }
  if (container.report_text.empty()) return finish_start(container, {});
  container.info.message = container.report_text;
  finish_start(container, Error(Code::kInternal, container.report_text));
}

void Monitor::finish_start(Container& container, Result<> result) {
  loop_.cancel(container.start_timer);
  container.gate.reset();
  if (container.report.valid()) {
    loop_.epoll().remove(container.report);
    container.report.reset();
  }
  if (result.ok()) {
    container.info.state = ContainerState::kRunning;
    container.info.started_at = now_unix_ns();
  }
  for (const RequestKey& key : std::exchange(container.starters, {})) {
    if (result.ok()) {
      requests_.finish(key, wire::Outcome(container.info));
    } else {
      requests_.finish(key, result.error());
    }
  }
  // Behind the answers, which say the same.
  if (!result.ok()) return;
  persist(container);
  tell(wire::Event{container.info});
}

}  // namespace fluyt::monitor
