#pragma once

#include <atomic>
#include <condition_variable>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "base/result.h"
#include "base/time.h"
#include "monitor/client/client.h"
#include "monitor/client/hub_thread.h"
#include "monitor/protocol/frame.h"
#include "monitor/protocol/messages.h"
#include "runtime/cgroup/cgroup.h"
#include "sys/fd.h"
#include "sys/process.h"

namespace fluyt::monitor {

/// One monitor's socket. Callers wait on a condition variable; the hub's thread reads, writes and
/// connects again when the socket is lost while the monitor lives.
class Connection final : public Client, public std::enable_shared_from_this<Connection> {
 public:
  /// Connects to the socket in `state_dir`, says hello and watches the process. kNotFound when
  /// nobody answers there.
  static Result<std::shared_ptr<Connection>> open(std::shared_ptr<HubThread> hub,
                                                  std::string sandbox_id, std::string state_dir,
                                                  Events events, Deadline deadline);
  ~Connection() override;
  Connection(const Connection&) = delete;
  Connection& operator=(const Connection&) = delete;

  int32_t monitor_pid() const override { return monitor_.pid(); }
  Result<SandboxNamespaces> make_sandbox(const SandboxRequest& request, Deadline deadline) override;
  Result<ContainerInfo> create(const CreateRequest& request) override;
  Result<ContainerInfo> start(const std::string& id, Deadline deadline) override;
  Result<> signal(const std::string& id, int signal, bool all) override;
  Result<ExecStarted> exec(const ExecRequest& request) override;
  Result<> kill_exec(uint64_t exec_id, int signal) override;
  Result<> attach(const AttachRequest& request) override;
  Result<> resize(const std::string& id, uint16_t height, uint16_t width) override;
  Result<> reopen_log(const std::string& id) override;
  Result<> update(const std::string& id, const std::string& resources_json) override;
  Result<> remove(const std::string& id, Deadline deadline) override;
  Result<> checkpoint(const CheckpointRequest& request, Deadline deadline) override;
  Result<std::vector<ContainerInfo>> list() override;
  Result<> shutdown(Deadline deadline) override;
  std::string program() const override;
  Result<> replace(sys::FdRef monitor, sys::FdRef pod_init, Deadline deadline) override;
  bool lost() const override { return lost_; }

  /// Every call under way and to come ends with kUnavailable.
  void fail_all(const std::string& why);

 private:
  struct Reply {
    wire::Outcome outcome;
    std::vector<sys::Fd> fds;
    std::string trace;
  };
  struct Pending {
    wire::Request request;     // kept to be sent again after a reconnect
    std::vector<sys::Fd> fds;  // its descriptors, lent to each sending
    std::optional<Result<Reply>> reply;
    bool ours = false;  // nobody waits for its answer: it is the hub's thread that asked
  };
  enum class Phase { kLive, kEnding, kGone };

  Connection(std::shared_ptr<HubThread> hub, std::string sandbox_id, std::string state_dir,
             Events events);

  /// How an answer is waited for, and how the wait ended when none came.
  struct Attention {
    /// Asked now and then meanwhile: an error ends the wait.
    std::function<Result<>()> look;
    /// Asked at the deadline: whether none will come after it either.
    std::function<bool()> is_idle;
    bool unanswered = false;  // at the deadline
    bool silent = false;      // no answer, and none is to be hoped for
    bool unkillable = false;  // what was to be killed stands still
  };
  /// Looks whether the monitor is stopped or hangs.
  Attention to_monitor() const;
  /// And whether what is being killed in the cgroups stands still.
  Attention to_killed(std::vector<runtime::CgroupRecord> cgroups) const;
  std::vector<runtime::CgroupRecord> cgroups_of_container(const std::string& id) const;

  Result<Reply> call(wire::Verb verb, const std::vector<sys::FdRef>& fds, Deadline deadline,
                     Attention* attention = nullptr);
  Result<> call_done(wire::Verb verb, const std::vector<sys::FdRef>& fds, Deadline deadline,
                     Attention* attention = nullptr);
  uint32_t version() const;
  bool is_ending() const;
  /// What hello has settled.
  void note_hello(const wire::HelloAnswer& hello);
  /// The record of a container, when that says that it has ended: then nothing of it is worth the
  /// monitor, on which the rest of the sandbox hangs.
  std::optional<ContainerInfo> find_ended(const std::string& id) const;
  /// The monitor does not answer any more: it is killed, and told to be lost.
  void give_up(const std::string& why);
  template <class T>
  Result<T> call_for(wire::Verb verb, const std::vector<sys::FdRef>& fds, Deadline deadline,
                     Attention* attention = nullptr) {
    Reply reply = FLUYT_TRY(call(std::move(verb), fds, deadline, attention));
    if (auto* value = std::get_if<T>(&reply.outcome)) return std::move(*value);
    return Error(Code::kInternal, "the monitor's answer is of another kind");
  }

  // On the hub's thread.
  void watch();
  void on_socket(uint32_t events);
  Result<bool> read_frames();  // false when there was nothing
  void on_frame(const std::string& json);
  void answer(wire::Answer answer);
  /// An answer of one that is ours.
  void take(const Result<Reply>& reply);
  void ask(wire::Verb verb);
  void tell(const ContainerInfo& info);
  void send(const std::shared_ptr<Pending>& pending);
  void flush();
  void reconnect();
  void drop_socket();
  void gone();

  const std::shared_ptr<HubThread> hub_;
  const std::string sandbox_id_;
  const std::string state_dir_;
  const Events events_;
  const std::string client_id_;
  sys::Process monitor_;
  // Only on the hub's thread, once watched.
  sys::Fd socket_;
  FrameReader reader_;
  FrameWriter writer_;
  bool waits_to_write_ = false;
  int attempts_ = 0;

  mutable std::mutex mutex_;
  std::condition_variable answered_;
  std::atomic<bool> lost_ = false;
  Phase phase_ = Phase::kLive;                            // under mutex_
  std::string gone_why_;                                  // under mutex_
  uint32_t version_ = 0;                                  // what it said in its hello; under mutex_
  std::string program_;                                   // under mutex_
  uint64_t next_id_ = 1;                                  // under mutex_
  std::map<uint64_t, std::shared_ptr<Pending>> pending_;  // under mutex_
  std::set<uint64_t> given_up_execs_;  // whose callers are gone, and not answered; under mutex_
};

}  // namespace fluyt::monitor
