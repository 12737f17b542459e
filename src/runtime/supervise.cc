#include "runtime/supervise.h"

#include <signal.h>
#include <sys/socket.h>

#include <nlohmann/json.hpp>

#include "base/strings.h"
#include "sys/clone.h"
#include "sys/file.h"
#include "sys/identity.h"
#include "sys/pty.h"
#include "sys/socket.h"

namespace fluyt::runtime {

namespace {

struct Conversation {
  const Supervision& how;
  sys::FdRef channel;
  sys::Process process;
  Supervised out;
  bool ready = false;

  Result<> go() { return send_packet(channel, Message::kGo, process.pid()); }
  void reap(const sys::Process& gone) const {
    if (how.parent != ParentOf::kCaller) return;
    gone.wait(Deadline::after_ms(2000)).ignore("it is another's to reap, or stuck in the kernel");
  }
  Result<> take_over(pid_t forked) {
    // It waits for us: the pid is its own for as long as nobody kills it.
    sys::Process next = FLUYT_TRY(sys::Process::open(forked));
    // The one that set up ends by itself.
    reap(process);
    process = std::move(next);
    if (how.on_forked) FLUYT_TRY(how.on_forked(forked));
    return go();
  }
  Result<> take_listener(int number) {
    const sys::Fd listener = FLUYT_TRY(sys::take_descriptor(process, number));
    FLUYT_TRY(how.hand_over_listener(process.pid(), listener));
    return how.until_executed ? go() : Result<>();
  }
  Result<> make_bind(const Packet& packet) {
    if (packet.fds.size() != 1 || !how.bind)
      return Error(Code::kInternal, "mounts: no source of a bind came");
    const auto place = static_cast<size_t>(packet.value);
    const sys::Fd bind = FLUYT_TRY(how.bind(process.pid(), place, packet.fds[0]));
    return send_packet(channel, Message::kGo, process.pid(), {}, {bind});
  }
  Result<> answer(Packet& packet);
};

Result<> Conversation::answer(Packet& packet) {
  switch (packet.kind) {
    case Message::kError:
      return error_of(packet);
    case Message::kWarning:
      out.warnings.push_back(packet.text);
      return {};
    case Message::kWantIdMaps:
      FLUYT_TRY_CONTEXT(
          sys::write_id_maps(process.pid(), how.plan.namespaces.uids, how.plan.namespaces.gids),
          "linux.uidMappings");
      return go();
    case Message::kWantOffsets:
      FLUYT_TRY_CONTEXT(sys::write_file(sys::kCwd, cat("/proc/", process.pid(), "/timens_offsets"),
                                        how.plan.namespaces.time_offsets),
                        "linux.timeOffsets");
      return go();
    case Message::kWantDevices:
      if (how.move_devices) FLUYT_TRY(how.move_devices(process.pid()));
      return go();
    case Message::kWantHooks:
      if (how.run_hooks) FLUYT_TRY(how.run_hooks(process.pid()));
      return go();
    case Message::kWantBind:
      return make_bind(packet);
    case Message::kForked:
      return take_over(packet.value);
    case Message::kConsole:
      if (packet.fds.size() != 1) return Error(Code::kInternal, "console: no descriptor came");
      out.console = std::move(packet.fds[0]);
      // Before the program writes its first line.
      if (how.newlines == Newlines::kAsWritten) FLUYT_TRY(sys::keep_newlines(out.console));
      return {};
    case Message::kListener:
      return take_listener(packet.value);
    case Message::kReady:
      ready = true;
      return {};
    case Message::kGo:
      break;
  }
  return Error(Code::kInternal, cat("unexpected message ", static_cast<uint32_t>(packet.kind)));
}

Result<> converse(Conversation& talk) {
  while (!talk.ready || talk.how.until_executed) {
    auto packet = FLUYT_TRY(receive_packet(talk.channel, talk.how.deadline, talk.how.stop));
    if (!packet) {
      // End of file: after "ready" of an exec it is execve(2) that closed the channel.
      if (talk.ready) return {};
      return Error(Code::kInternal, "the container's first process died while it was set up");
    }
    FLUYT_TRY(talk.answer(*packet));
  }
  return {};
}

}  // namespace

Result<Supervised> supervise(const Supervision& how, sys::Process first, sys::FdRef channel) {
  Conversation talk{
      .how = how, .channel = channel, .process = std::move(first), .out = {}, .ready = false};
  auto done = converse(talk);
  if (!done.ok()) {
    talk.process.kill(SIGKILL).ignore("what matters is why");
    talk.reap(talk.process);
    return std::move(done).error();
  }
  talk.out.process = std::move(talk.process);
  return std::move(talk.out);
}

Result<> set_oom_score(const Plan& plan, pid_t pid) {
  if (!plan.identity.oom_score_adj) return {};
  FLUYT_TRY_CONTEXT(sys::write_file(sys::kCwd, cat("/proc/", pid, "/oom_score_adj"),
                                    std::to_string(*plan.identity.oom_score_adj)),
                    "process.oomScoreAdj");
  return {};
}

Result<> set_from_outside(const Plan& plan, pid_t pid) {
  if (!plan.identity.initial_cpus.empty()) {
    FLUYT_TRY_CONTEXT(sys::set_cpu_affinity(pid, plan.identity.initial_cpus),
                      "process.execCPUAffinity.initial");
  } else {
    sys::reset_cpu_affinity(pid).ignore("the caller's CPUs are as many as it gets");
  }
  FLUYT_TRY(set_oom_score(plan, pid));
  if (!plan.namespaces.in_user_namespace()) return {};
  for (const RlimitPlan& limit : plan.identity.rlimits) {
    const sys::Limits now = FLUYT_TRY(sys::get_rlimit(pid, limit.resource));
    if (limit.hard <= now.hard) continue;
    FLUYT_TRY_CONTEXT(sys::set_rlimit(pid, limit.resource, now.soft, limit.hard),
                      cat("process.rlimits: ", limit.name));
  }
  return {};
}

Result<> send_listener(const std::string& path, const std::string& metadata, pid_t pid,
                       const std::string& state_json, sys::FdRef listener) {
  nlohmann::json state = nlohmann::json::parse(state_json, nullptr, false);
  nlohmann::json message = {
      {"ociVersion", "1.3.0"}, {"fds", {"seccompFd"}}, {"pid", pid}, {"state", state}};
  if (!metadata.empty()) message["metadata"] = metadata;
  const sys::Fd socket =
      FLUYT_TRY_CONTEXT(sys::connect_unix(path, SOCK_STREAM),
                        "linux.seccomp.listenerPath: failed to connect with seccomp agent");
  return sys::send_with_fds(socket, message.dump(), {listener});
}

}  // namespace fluyt::runtime
