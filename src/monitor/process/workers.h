#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "base/result.h"
#include "monitor/process/loop.h"
#include "sys/fd.h"
#include "sys/process.h"

namespace fluyt::monitor {

/// Whatever may take long or block is done by a worker: a copy of the monitor that has closed
/// everything but what it was lent, does one thing, tells how it went and ends.
struct WorkerReply {
  std::string text;
  std::vector<sys::Fd> fds;  // at most sys::kMaxPassedFds
  std::string trace;         // where its time went: trace::Collector::text()
};

/// What a worker's body may say before its reply: kept by the monitor in case the worker is given
/// up.
using Announce = std::function<void(std::string_view)>;

struct WorkerJob {
  /// Runs in the worker. Everything it captured is its own copy.
  std::function<Result<WorkerReply>(const Announce&)> body;
  std::vector<sys::FdRef> keep;  // descriptors that the body uses
  int64_t deadline_ms = 30'000;
  /// It makes processes that become the monitor's children: until it has told, an exit of an
  /// unknown child is kept, for the reply that names the child may be on its way.
  bool makes_children = false;
  /// Told once, on the loop: the reply, the body's error, or kDeadlineExceeded when the worker was
  /// given up (`announced` is the last thing that it said). A worker that a dead file system holds
  /// in the kernel is left behind; nobody waits for it.
  std::function<void(Result<WorkerReply>, const std::string& announced)> done;
};

using WorkerId = uint64_t;

class Workers {
 public:
  explicit Workers(Loop& loop) : loop_(loop) {}
  ~Workers();
  Workers(const Workers&) = delete;
  Workers& operator=(const Workers&) = delete;

  /// kInternal when no process can be made; `done` is then not called.
  Result<WorkerId> start(WorkerJob job);
  /// Ends the worker; its job is told kCancelled. Unknown is fine.
  void cancel(WorkerId id);
  /// A child of the monitor was reaped. True when it was a worker.
  bool on_exit(pid_t pid, sys::ExitStatus status);
  /// A child that nobody knows was reaped: its exit is kept while a worker may still name it. One
  /// that has told or was given up names nobody any more, however long it lives.
  void keep_exit(pid_t pid, sys::ExitStatus status);
  /// The exit of a child that a reply has just named, when it came first.
  std::optional<sys::ExitStatus> take_exit(pid_t pid);
  /// Whether `session` was the session of a worker that was given up.
  bool was_given_up(pid_t session) const { return given_up_.contains(session); }
  /// Whether one is about something that somebody waits for.
  bool busy() const;
  std::vector<pid_t> given_up() const { return {given_up_.begin(), given_up_.end()}; }
  void note_given_up(pid_t session) { given_up_.insert(session); }
  bool knows(pid_t pid) const { return workers_.contains(pid); }

 private:
  struct Worker {
    WorkerId id = 0;
    sys::Process process;
    sys::Fd socket;
    bool makes_children = false;
    std::string announced;
    Loop::TimerId timer = Loop::kNoTimer;
    std::function<void(Result<WorkerReply>, const std::string&)> done;  // empty once told
  };
  void on_message(pid_t pid);
  bool take_message(Worker& worker);
  void tell(Worker& worker, Result<WorkerReply> reply);
  void give_up(Worker& worker, Error why);
  bool any_may_name_children() const;

  Loop& loop_;
  WorkerId next_id_ = 1;
  std::map<pid_t, std::shared_ptr<Worker>> workers_;
  std::set<pid_t> given_up_;                // of those that make children: their sessions
  std::map<pid_t, sys::ExitStatus> exits_;  // of children that a reply may name
};

}  // namespace fluyt::monitor
