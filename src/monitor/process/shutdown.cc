#include <unistd.h>

#include <csignal>
#include <utility>

#include "base/strings.h"
#include "monitor/process/monitor.h"
#include "sys/file.h"

namespace fluyt::monitor {

void Monitor::handle(const RequestKey& key, wire::Shutdown verb, Fds /*fds*/) {
  const bool first = !ending_;
  if (first) ending_.emplace();
  ending_->keys.push_back(key);
  if (!first) return;
  ending_->deadline_ms = verb.deadline_ms;
  loop_.after_ms(verb.deadline_ms, [this] {
    std::string left;
    for (const auto& [id, container] : containers_) left += cat(" ", id);
    for (const auto& [id, creating] : creating_) left += cat(" ", id);
    for (const std::string& id : undoing_) left += cat(" ", id);
    // Who asked ends us now and cleans up by the records.
    for (const RequestKey& waiting : ending_->keys) {
      done(waiting, Error(Code::kDeadlineExceeded, cat("shutdown: not ended in time:", left)));
    }
  });
  // A copy: a cancelled worker's end takes itself off the list.
  std::vector<WorkerId> workers;
  for (const auto& [id, creating] : creating_) workers.push_back(creating.worker);
  for (const WorkerId worker : workers) workers_.cancel(worker);
  for (const auto& [id, container] : containers_) remove_now(*container, verb.deadline_ms);
  continue_shutdown();
}

void Monitor::continue_shutdown() {
  if (!containers_.empty() || !creating_.empty() || !undoing_.empty()) return;
  if (sandbox_ && sandbox_->pod_init) {
    sandbox_->pod_init->kill(SIGKILL).ignore("it is our child");
    return;  // its exit comes back here
  }
  // Its cgroup, empty now, goes with the monitor's own: clean_after() of whoever asked does that.
  end_shutdown();
}

void Monitor::end_shutdown() {
  auto unmounted = unmount_namespaces(options_.state_dir);
  if (!unmounted.ok()) log(unmounted.error().message());
  sys::remove_file(sys::kCwd, cat(options_.state_dir, "/", kSocketFile))
      .ignore("the folder goes next");
  for (const RequestKey& key : ending_->keys) {
    requests_.note_trace(key, ending_->trace);
    done(key, {});
  }
  // The answers are in the sockets' buffers.
  over_ = true;
}

}  // namespace fluyt::monitor
