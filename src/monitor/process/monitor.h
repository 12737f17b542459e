#pragma once

#include <cstdint>
#include <deque>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "monitor/process/container.h"
#include "monitor/process/container_runtime.h"
#include "monitor/process/handover.h"
#include "monitor/process/loop.h"
#include "monitor/process/requests.h"
#include "monitor/process/sandbox.h"
#include "monitor/process/workers.h"
#include "monitor/protocol/messages.h"
#include "monitor/protocol/state_folder.h"
#include "sys/fd.h"
#include "sys/process.h"

namespace fluyt::monitor {

struct MonitorOptions {
  std::string sandbox_id;
  std::string state_dir;
  std::string cgroup;        // a leaf to join, "" to stay
  sys::Fd pod_init_program;  // a detached read-only mount of it
};

/// The fourth argument of a monitor that goes on for another program.
struct ResumeWord {
  int state = kNoFd;     // a memfd with what is handed over
  int previous = kNoFd;  // the program that hands over; none for that one, come back
};
std::string resume_word(int state, int previous);
std::optional<ResumeWord> parse_resume_word(std::string_view text);

/// One sandbox's monitor: the parent of its containers, one loop that never waits for any of them.
/// Verbs answer requests by their key, at once or when a worker, an exit or a timer lets them.
class Monitor {
 public:
  /// Joins its cgroup, becomes a subreaper, writes its record and listens.
  static Result<std::unique_ptr<Monitor>> create(MonitorOptions options);
  /// Goes on in place of the program that ran here before (replace.cc).
  static Result<std::unique_ptr<Monitor>> resume(MonitorOptions options, ResumeWord word);
  ~Monitor();
  Monitor(const Monitor&) = delete;
  Monitor& operator=(const Monitor&) = delete;
  /// Until shutdown.
  Result<> run();

 private:
  struct Creating {
    WorkerId worker = 0;
    std::vector<RequestKey> removers;
  };
  struct Exec {
    uint64_t id = 0;
    std::string container_id;
    sys::Process process;
  };
  struct EndedExec {
    uint64_t id = 0;
    std::string container_id;
    pid_t session = 0;
    std::optional<int32_t> exit_code;  // 128 + signal; none: handed over by one that kept none
  };
  using Fds = std::vector<sys::Fd>;

  Monitor(MonitorOptions options, Loop loop);
  Result<> prepare();
  Result<> record_self();
  Result<> prepare_process();
  Result<> take_over(Handover handover);
  Result<> take_over_container(HandoverContainer from);
  void add_peer(sys::Fd socket, const std::string& client);

  // Connections (connections.cc).
  void on_listener();
  void on_peer(int socket, uint32_t events);
  Result<> read_peer(const std::shared_ptr<Peer>& peer);
  void on_frame(const std::shared_ptr<Peer>& peer, const std::string& json);
  void dispatch(const RequestKey& key, wire::Verb verb, Fds fds);
  Result<wire::Outcome> hello(Peer& peer, const wire::Hello& hello);
  void drop_lost_peers();
  void tell(const wire::Event& event);
  void tell_ended_execs(Peer& peer);
  void done(const RequestKey& key, Result<> result);

  // Verbs: one file each.
  void handle(const RequestKey& key, wire::Hello verb, Fds fds);
  void handle(const RequestKey& key, wire::MakeSandbox verb, Fds fds);
  void handle(const RequestKey& key, wire::Create verb, Fds fds);
  void handle(const RequestKey& key, wire::Start verb, Fds fds);
  void handle(const RequestKey& key, wire::Signal verb, Fds fds);
  void handle(const RequestKey& key, wire::Exec verb, Fds fds);
  void handle(const RequestKey& key, wire::KillExec verb, Fds fds);
  void handle(const RequestKey& key, wire::Attach verb, Fds fds);
  void handle(const RequestKey& key, wire::Resize verb, Fds fds);
  void handle(const RequestKey& key, wire::ReopenLog verb, Fds fds);
  void handle(const RequestKey& key, wire::Update verb, Fds fds);
  void handle(const RequestKey& key, wire::Remove verb, Fds fds);
  void handle(const RequestKey& key, wire::Checkpoint verb, Fds fds);
  void handle(const RequestKey& key, wire::Replace verb, Fds fds);
  void handle(const RequestKey& key, wire::List verb, Fds fds);
  void handle(const RequestKey& key, wire::Shutdown verb, Fds fds);

  Result<> choose_runtime(const SandboxRequest& request);
  Result<Container*> get_container(const std::string& id);
  void created(const RequestKey& key, const std::string& id, Result<CreatedContainer> result);
  void undo(const std::string& id, const std::string& announced);
  Result<> check_joined(const CreateRequest& request) const;
  Result<> add_container(const CreateRequest& request, CreatedContainer created);
  void on_report(const std::string& id);
  void start_by_call(Container& container, int64_t deadline_ms);
  void signal_by_call(const RequestKey& key, const Container& container, int signal);
  void finish_start(Container& container, Result<> result);
  void watch_oom(Container& container);
  /// systemd's scope: it stays, with what it has counted, until release_cgroup().
  void hold_cgroup(Container& container);
  void release_cgroup(Container& container);
  void count_oom(Container& container);

  // Exits (exits.cc).
  void on_children();
  void on_exit(pid_t pid, sys::ExitStatus status);
  void on_container_exit(Container& container, sys::ExitStatus status);
  void finish_exit(const std::string& id);
  void on_exec_exit(const Exec& exec, sys::ExitStatus status);
  /// The exit of a child that a worker's reply has just named, when it came first.
  void take_early_exit(pid_t pid);

  /// Ends children that nobody knows and whose worker was given up.
  void kill_strays();

  void remove_now(Container& container, int64_t deadline_ms);
  void finish_remove(const std::string& id);
  void kill_everything(const Container& container);
  void persist(const Container& container);
  /// Why it cannot be replaced now; empty: it can.
  std::string why_busy(const RequestKey& key) const;
  Handover hand_over(const RequestKey& key, sys::FdRef previous, sys::FdRef pod_init) const;
  /// Returns only when it did not work.
  Error become(sys::FdRef program, const Handover& handover);
  void continue_shutdown();
  void end_shutdown();
  void log(std::string_view text);

  MonitorOptions options_;
  Loop loop_;
  Workers workers_;
  Requests requests_;
  sys::Fd listener_;
  sys::Fd children_;  // signalfd of SIGCHLD
  std::map<int, std::shared_ptr<Peer>> peers_;
  bool over_ = false;
  size_t logged_bytes_ = 0;

  std::optional<runtime::cgroup::Host> host_;  // where cgroups are; empty: could not be asked
  std::unique_ptr<ContainerRuntime> runtime_;
  bool sandbox_requested_ = false;
  std::optional<Sandbox> sandbox_;
  std::map<std::string, std::unique_ptr<Container>> containers_;
  std::map<std::string, Creating> creating_;
  std::set<std::string> undoing_;
  std::map<pid_t, Exec> execs_;
  std::deque<EndedExec>
      ended_execs_;  // the last few: sessions that may live on, exits that may be unheard
  uint64_t next_exec_ = 1;

  struct Ending {
    std::vector<RequestKey> keys;
    int64_t deadline_ms = 0;
    std::string trace;  // of the first containers: an answer is kept only while it is short
    void add_trace(std::string_view more) {
      constexpr size_t kMostBytes = 8UL << 10U;
      if (trace.size() + more.size() <= kMostBytes) trace += more;
    }
  };
  std::optional<Ending> ending_;
};

/// Where what is handed over cannot be taken, the program before it goes on. Returns only when it
/// cannot be started, with why.
Error go_back(char* const* argv, ResumeWord word);

}  // namespace fluyt::monitor
