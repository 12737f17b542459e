#include "guest/sandbox/member.h"

#include <poll.h>
#include <signal.h>
#include <sys/signalfd.h>
#include <unistd.h>

#include <array>
#include <cstring>
#include <optional>

#include "base/strings.h"
#include "guest/platform/host/broker.h"
#include "guest/platform/host/confine.h"
#include "guest/platform/host/io.h"
#include "guest/platform/host/memory.h"
#include "guest/sandbox/packet.h"
#include "guest/sandbox/pod.h"
#include "guest/sandbox/text.h"
#include "sys/file.h"
#include "sys/socket.h"

namespace fluyt::guest {
namespace {

constexpr size_t kMaxText = size_t{64} << 20;
constexpr size_t kMaxPacket = sizeof(ControlPacket) + kMaxControlText;

Result<> say(sys::FdRef sandbox, const ControlPacket& packet,
             const std::vector<sys::FdRef>& descriptors = {}) {
  return sys::send_with_fds(sandbox,
                            std::string_view(reinterpret_cast<const char*>(&packet), sizeof packet),
                            descriptors);
}

struct Answer {
  ControlPacket head;
  std::string text;
};

/// Nothing: the sandbox has ended.
std::optional<Answer> hear(sys::FdRef sandbox) {
  std::array<char, kMaxPacket> bytes{};
  auto got = sys::receive_with_fds(sandbox, bytes.data(), bytes.size());
  Answer out;
  if (!got.ok() || got->size < sizeof out.head) return std::nullopt;
  std::memcpy(&out.head, bytes.data(), sizeof out.head);
  out.text.assign(bytes.data() + sizeof out.head, got->size - sizeof out.head);
  return out;
}

Result<int32_t> hear_kind(sys::FdRef sandbox, ControlPacket::Kind wanted) {
  const std::optional<Answer> answer = hear(sandbox);
  if (!answer) return Error(Code::kFailedPrecondition, "the sandbox has ended");
  if (answer->head.kind == wanted) return answer->head.value;
  if (answer->head.kind == ControlPacket::kFailed)
    return Error(static_cast<Code>(answer->head.value), answer->text);
  return Error(Code::kInternal, "the sandbox gave no answer that was asked for");
}

/// All but what our own faults raise, and the two that the C library keeps for itself.
sigset_t all_passed_on() {
  sigset_t set;
  sigfillset(&set);
  for (const int own :
       {SIGCHLD, SIGSEGV, SIGBUS, SIGILL, SIGFPE, SIGTRAP, SIGSYS, SIGABRT, SIGPIPE})
    sigdelset(&set, own);
  return set;
}

Result<> join(const MemberRequest& request) {
  const SandboxRequest sandbox =
      FLUYT_TRY(parse_sandbox(FLUYT_TRY(sys::read_all(request.text, kMaxText))));
  const sys::Fd procfs = FLUYT_TRY(host::open_procfs());
  const sys::Fd around = FLUYT_TRY(sys::sealed_memfd("surroundings", to_text(look_around(procfs))));
  const host::MemoryGauge memory = host::MemoryGauge::open(procfs, sandbox.memory_limit_bytes);
  FLUYT_TRY(host::stay_among_children());
  host::Broker::Parts broker = FLUYT_TRY_CONTEXT(host::Broker::fork_keeper(sandbox.root, procfs),
                                                 "broker for " + sandbox.root);
  const pid_t broker_pid = broker.child.pid();
  // From here on it ends with us, not by us.
  broker.child.leave_alone();
  // The broker stays where the mounts are.
  FLUYT_TRY(host::leave_tree());
  FLUYT_TRY(host::drop_privileges());
  FLUYT_TRY(host::confine_messenger());

  ControlPacket packet{.kind = ControlPacket::kAdd};
  std::vector<sys::FdRef> descriptors = {request.text,
                                         around,
                                         broker.child.socket(),
                                         broker.listener,
                                         broker.memory,
                                         sys::FdRef(STDIN_FILENO),
                                         sys::FdRef(STDOUT_FILENO),
                                         sys::FdRef(STDERR_FILENO),
                                         request.listener,
                                         memory.host()};
  const auto add = [&](uint32_t flag, std::initializer_list<sys::FdRef> more) {
    for (const sys::FdRef fd : more)
      if (!fd.valid()) return;
    packet.flags |= flag;
    descriptors.insert(descriptors.end(), more);
  };
  add(ControlPacket::kHasLimit, {memory.limit(), memory.used()});
  add(ControlPacket::kHasStrace, {request.strace});
  add(ControlPacket::kHasLog, {request.log});
  FLUYT_TRY(say(request.sandbox, packet, descriptors));
  const Born born{FLUYT_TRY(hear_kind(request.sandbox, ControlPacket::kMade)), broker_pid};
  FLUYT_TRY(sys::write_all(request.born,
                           std::string_view(reinterpret_cast<const char*>(&born), sizeof born)));
  char byte = 0;
  if (FLUYT_TRY(sys::read_some(request.go, {&byte, 1})) == 0)
    return Error(Code::kAborted, "nobody is left to move them into their cgroups");
  FLUYT_TRY(say(request.sandbox, {.kind = ControlPacket::kContinue}));
  FLUYT_TRY(hear_kind(request.sandbox, ControlPacket::kDone));
  return {};
}

/// What a process's end by a signal looks like to wait(2).
constexpr int ended_by(int signal) { return signal; }

/// Until the gate is opened. What asks for an end before that gets it.
Result<std::optional<int>> wait_at_gate(const MemberRequest& request, sys::FdRef signals) {
  for (;;) {
    std::array<pollfd, 3> all = {{{request.gate.raw(), POLLIN, 0},
                                  {request.sandbox.raw(), POLLIN, 0},
                                  {signals.raw(), POLLIN, 0}}};
    if (poll(all.data(), all.size(), -1) < 0) continue;
    if (all[2].revents != 0) {
      signalfd_siginfo info{};
      if (::read(signals.raw(), &info, sizeof info) != sizeof info) continue;
      const auto signal = static_cast<int>(info.ssi_signo);
      for (const int end : {SIGHUP, SIGINT, SIGQUIT, SIGTERM, SIGUSR1, SIGUSR2})
        if (signal == end && info.ssi_code != SI_KERNEL) return std::optional(ended_by(signal));
    }
    // It has nothing to say but that it is gone.
    if (all[1].revents != 0) return std::optional(ended_by(SIGKILL));
    if (all[0].revents == 0) continue;
    char byte = 0;
    if (FLUYT_TRY(sys::read_some(request.gate, {&byte, 1})) == 0)
      return Error(Code::kAborted, "nobody is left to start it");
    return std::optional<int>();
  }
}

/// Signals there, its end here.
int keep(sys::FdRef sandbox, sys::FdRef signals) {
  for (;;) {
    std::array<pollfd, 2> both = {{{sandbox.raw(), POLLIN, 0}, {signals.raw(), POLLIN, 0}}};
    if (poll(both.data(), both.size(), -1) < 0) continue;
    if (both[1].revents != 0) {
      signalfd_siginfo info{};
      if (::read(signals.raw(), &info, sizeof info) == sizeof info) {
        say(sandbox, {.kind = ControlPacket::kSignal,
                      .value = static_cast<int32_t>(info.ssi_signo),
                      .flags = info.ssi_code == SI_KERNEL ? ControlPacket::kFromTerminal : 0U})
            .ignore("its end is what is heard next");
      }
    }
    if (both[0].revents == 0) continue;
    const std::optional<Answer> answer = hear(sandbox);
    if (!answer) return ended_by(SIGKILL);
    if (answer->head.kind == ControlPacket::kExited) return answer->head.value;
  }
}

}  // namespace

Result<int> run_member(MemberRequest request) {
  const sigset_t set = all_passed_on();
  sigprocmask(SIG_BLOCK, &set, nullptr);
  signal(SIGPIPE, SIG_IGN);
  auto joined = join(request);
  if (!joined.ok()) {
    const auto code = static_cast<char>(joined.error().code());
    sys::write_all(request.ready, cat(std::string_view(&code, 1), joined.error().message()))
        .ignore("whoever made us is gone");
    return std::move(joined).error();
  }
  // The streams are the program's alone: whoever reads from them sees its end.
  for (const int stream : {STDIN_FILENO, STDOUT_FILENO, STDERR_FILENO}) close(stream);
  for (sys::Fd* fd : {&request.text, &request.listener, &request.born, &request.go, &request.strace,
                      &request.log})
    fd->reset();
  const sys::Fd signals(signalfd(-1, &set, SFD_CLOEXEC));
  if (request.gate.valid()) {
    request.ready.reset();
    const std::optional<int> ended = FLUYT_TRY(wait_at_gate(request, signals));
    if (ended) return *ended;
    request.gate.reset();
  }
  FLUYT_TRY(say(request.sandbox, {.kind = ControlPacket::kStart}));
  const auto started = hear_kind(request.sandbox, ControlPacket::kStarted);
  if (!started.ok()) {
    sys::write_all(request.report, started.error().message()).ignore("whoever started us is gone");
    return started.error();
  }
  request.report.reset();
  request.ready.reset();
  return keep(request.sandbox, signals);
}

}  // namespace fluyt::guest
