#include <csignal>
#include <utility>

#include "base/strings.h"
#include "monitor/client/clean.h"
#include "monitor/client/connection.h"
#include "monitor/protocol/state_folder.h"
#include "sys/file.h"

namespace fluyt::monitor {

namespace {

// How long an answer may come after the deadline that the monitor itself keeps.
constexpr int64_t kGraceMs = 5'000;
// For verbs that the monitor answers from memory.
constexpr int64_t kPromptMs = 10'000;

int64_t ms_left(Deadline deadline) {
  const int left = deadline.poll_timeout_ms();
  return left < 0 ? 24 * 3'600'000LL : left;
}

// How long it takes to do without the monitor what it does not do; given up much sooner where the
// kernel does not let it be done.
constexpr int64_t kByRecordMs = 10'000;

Deadline with_grace(int64_t ms) { return Deadline::after_ms(ms + kGraceMs); }
Deadline prompt() { return Deadline::after_ms(kPromptMs); }

}  // namespace

Result<SandboxNamespaces> Connection::make_sandbox(const SandboxRequest& request,
                                                   Deadline deadline) {
  const int64_t ms = ms_left(deadline);
  return call_for<SandboxNamespaces>(wire::MakeSandbox{request, ms}, {}, with_grace(ms));
}

Result<ContainerInfo> Connection::create(const CreateRequest& request) {
  const sys::Fd spec = FLUYT_TRY(sys::sealed_memfd("spec", request.spec_json));
  wire::Create verb{request};
  verb.container.spec_json.clear();
  return call_for<ContainerInfo>(std::move(verb), {spec}, with_grace(request.deadline_ms));
}

Result<ContainerInfo> Connection::start(const std::string& id, Deadline deadline) {
  const int64_t ms = ms_left(deadline);
  return call_for<ContainerInfo>(wire::Start{id, ms}, {}, with_grace(ms));
}

Result<> Connection::signal(const std::string& id, int signal, bool all) {
  const bool kills = signal == SIGKILL;
  if (!lost_) {
    Attention attention = kills && all ? to_killed(cgroups_of_container(id)) : to_monitor();
    auto asked = call_done(wire::Signal{id, signal, all}, {}, prompt(), &attention);
    if (asked.ok() || !(attention.unanswered || attention.silent || attention.unkillable))
      return asked;
    if (attention.silent && kills) {
      if (const auto ended = find_ended(id)) {
        // Whoever asks has not heard of it.
        hub_->post([weak = weak_from_this(), info = *ended] {
          if (auto self = weak.lock()) self->tell(info);
        });
        return {};
      }
      give_up(asked.error().message());
    }
  }
  return signal_by_record(state_dir_, id, signal, all, Deadline::after_ms(kByRecordMs));
}

Result<ExecStarted> Connection::exec(const ExecRequest& request) {
  const sys::Fd process = FLUYT_TRY(sys::sealed_memfd("process", request.process_json));
  wire::Exec verb{.id = request.container_id,
                  .terminal = request.terminal,
                  .deadline_ms = request.start_deadline_ms};
  std::vector<sys::FdRef> fds = {process};
  if (!request.terminal) {
    verb.has_in = request.in.valid();
    verb.has_out = request.out.valid();
    verb.has_err = request.err.valid();
    for (const sys::FdRef fd : {request.in, request.out, request.err}) {
      if (fd.valid()) fds.push_back(fd);
    }
  }
  Reply reply = FLUYT_TRY(call(std::move(verb), fds, with_grace(request.start_deadline_ms)));
  const auto* answer = std::get_if<wire::ExecAnswer>(&reply.outcome);
  if (answer == nullptr)
    return Error(Code::kInternal, "the monitor's answer to exec is of another kind");
  ExecStarted started{.exec_id = answer->exec_id, .pid = answer->pid, .console = {}};
  if (request.terminal) {
    if (reply.fds.empty()) return Error(Code::kInternal, "exec: the monitor sent no console");
    started.console = std::move(reply.fds.front());
  }
  return started;
}

Result<> Connection::kill_exec(uint64_t exec_id, int signal) {
  return call_done(wire::KillExec{exec_id, signal}, {}, prompt());
}

Result<> Connection::attach(const AttachRequest& request) {
  const wire::Attach verb{request.container_id, request.in.valid(), request.out.valid(),
                          request.err.valid()};
  std::vector<sys::FdRef> fds;
  for (const sys::FdRef fd : {request.in, request.out, request.err}) {
    if (fd.valid()) fds.push_back(fd);
  }
  return call_done(verb, fds, prompt());
}

Result<> Connection::resize(const std::string& id, uint16_t height, uint16_t width) {
  return call_done(wire::Resize{id, height, width}, {}, prompt());
}

Result<> Connection::reopen_log(const std::string& id) {
  return call_done(wire::ReopenLog{id}, {}, prompt());
}

Result<> Connection::update(const std::string& id, const std::string& resources_json) {
  const sys::Fd resources = FLUYT_TRY(sys::sealed_memfd("resources", resources_json));
  return call_done(wire::Update{id}, {resources}, prompt());
}

Result<> Connection::remove(const std::string& id, Deadline deadline) {
  if (lost_) return remove_by_record(state_dir_, id, deadline);
  const int64_t ms = ms_left(deadline);
  Attention attention = to_killed(cgroups_of_container(id));
  auto asked = call_done(wire::Remove{id, ms}, {}, with_grace(ms), &attention);
  if (asked.ok() || !(attention.unanswered || attention.silent || attention.unkillable))
    return asked;
  if ((attention.unanswered || attention.silent) && !find_ended(id)) {
    // Where nothing is on record, it may still be made: the monitor, which gives that up when it
    // comes to what it is asked, knows alone.
    const auto record = find_record(state_dir_, id);
    if (!attention.silent || !record.ok() || !*record) return asked;
    give_up(asked.error().message());
  }
  return remove_by_record(state_dir_, id, Deadline::after_ms(kByRecordMs));
}

Result<> Connection::checkpoint(const CheckpointRequest& request, Deadline deadline) {
  if (version() < kCheckpointVersion) {
    return Error(Code::kUnimplemented,
                 cat("the monitor of sandbox ", sandbox_id_, " is of fluyt ", program(),
                     ", which has no checkpoints yet: a new sandbox gets a new monitor"));
  }
  const int64_t ms = ms_left(deadline);
  return call_done(wire::Checkpoint{request.id, request.bundle, request.folder, ms}, {},
                   with_grace(ms));
}

Result<> Connection::replace(sys::FdRef monitor, sys::FdRef pod_init, Deadline deadline) {
  if (version() < kReplaceVersion) {
    return Error(Code::kUnimplemented,
                 cat("the monitor of sandbox ", sandbox_id_, " is of fluyt ", program(),
                     ", which cannot replace itself yet: a new sandbox gets a new monitor"));
  }
  Attention attention = to_monitor();
  note_hello(FLUYT_TRY(
      call_for<wire::HelloAnswer>(wire::Replace{}, {monitor, pod_init}, deadline, &attention)));
  return {};
}

Result<std::vector<ContainerInfo>> Connection::list() {
  return call_for<std::vector<ContainerInfo>>(wire::List{}, {}, prompt());
}

Result<> Connection::shutdown(Deadline deadline) {
  {
    const std::lock_guard lock(mutex_);
    if (phase_ == Phase::kGone) return clean_after(state_dir_, deadline);
    phase_ = Phase::kEnding;
  }
  const int64_t ms = ms_left(deadline);
  Attention attention = to_killed(cgroups_of(state_dir_));
  auto asked = call_done(wire::Shutdown{ms}, {}, with_grace(ms), &attention);
  // A monitor that does not end by itself is ended: what it left is then cleaned like a dead one's.
  if (!asked.ok()) FLUYT_TRY(monitor_.kill(SIGKILL));
  if (asked.ok() && !FLUYT_TRY(wait_gone(monitor_, Deadline::after_ms(kGraceMs))))
    FLUYT_TRY(monitor_.kill(SIGKILL));
  lost_ = true;
  return clean_after(state_dir_, with_grace(ms));
}

}  // namespace fluyt::monitor
