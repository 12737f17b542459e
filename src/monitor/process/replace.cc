#include <fcntl.h>
#include <linux/close_range.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <utility>

#include "base/strings.h"
#include "monitor/process/monitor.h"
#include "monitor/protocol/release.h"
#include "sys/file.h"

/// A monitor becomes another program in place: its pid, its children and its descriptors stay; what
/// it knows goes over in a memfd. Containers notice nothing: what they write waits in the pipes.
namespace fluyt::monitor {

namespace {

constexpr size_t kMaxHandoverBytes = 256UL << 20U;

enum class OnExec { kClose, kKeep };

Result<> on_exec(int fd, OnExec what) {
  if (fcntl(fd, F_SETFD, what == OnExec::kClose ? FD_CLOEXEC : 0) != 0)
    return Error::from_errno(errno, cat("fcntl(", fd, ", F_SETFD)"));
  return {};
}

Error execute(sys::FdRef program, std::vector<std::string> words) {
  std::vector<char*> argv;
  for (std::string& word : words) argv.push_back(word.data());
  argv.push_back(nullptr);
  std::array<char*, 1> envp = {nullptr};
  syscall(SYS_execveat, program.raw(), "", argv.data(), envp.data(), AT_EMPTY_PATH);
  return Error::from_errno(errno, "execveat(monitor)");
}

Result<Handover> read_handover(sys::FdRef state) {
  if (lseek(state.raw(), 0, SEEK_SET) != 0) return Error::from_errno(errno, "lseek(handover)");
  return decode_handover(FLUYT_TRY(sys::read_all(state, kMaxHandoverBytes)));
}

std::unique_ptr<ContainerRuntime> runtime_on_record(
    const std::string& state_dir, const std::optional<runtime::cgroup::Host>& host,
    std::string& warning) {
  constexpr size_t kMaxRecordBytes = 1UL << 20U;
  auto text = sys::read_file(cat(state_dir, "/", kRuntimeFile), kMaxRecordBytes);
  if (!text.ok()) return make_linked_runtime(state_dir, host);
  auto program = decode_runtime(*text);
  if (program.ok()) return make_program_runtime(state_dir, std::move(program).value());
  warning = program.error().message();
  return make_linked_runtime(state_dir, host);
}

sys::Process process_of(pid_t pid, int pidfd) {
  return pidfd == kNoFd ? sys::Process() : sys::Process(pid, sys::Fd(pidfd));
}

}  // namespace

void Monitor::handle(const RequestKey& key, wire::Replace /*verb*/, Fds fds) {
  if (fds.size() != 2) {
    return done(key, Error(Code::kInvalidArgument,
                           cat("replace: ", fds.size(), " descriptors, expected 2")));
  }
  // Behind what has been read with it, and with no handler of ours on the stack.
  loop_.defer([this, key, programs = std::make_shared<Fds>(std::move(fds))] {
    if (const std::string busy = why_busy(key); !busy.empty())
      return done(key, Error(Code::kUnavailable, cat("replace: ", busy)));
    auto previous = sys::open("/proc/self/exe", O_PATH);
    if (!previous.ok()) return done(key, std::move(previous).error());
    done(key, become((*programs)[0], hand_over(key, *previous, (*programs)[1])));
  });
}

std::string Monitor::why_busy(const RequestKey& key) const {
  if (ending_) return "the sandbox is being shut down";
  if (workers_.busy() || !creating_.empty() || !undoing_.empty()) return "a worker is at work";
  if (requests_.waits_for_others(key)) return "an answer is owed";
  for (const auto& [socket, peer] : peers_) {
    if (!peer->idle() || peer->client().empty()) return "a frame is half sent";
  }
  for (const auto& [id, container] : containers_) {
    if (container->reaped && container->info.state != ContainerState::kExited)
      return cat("container ", id, " is ending");
    if (container->io->closing() && container->io->has_clients())
      return cat("what container ", id, " wrote last is still being read");
    if (container->gated && container->report.valid() && !container->gate.valid())
      return cat("container ", id, " is starting");
  }
  return {};
}

Handover Monitor::hand_over(const RequestKey& key, sys::FdRef previous, sys::FdRef pod_init) const {
  Handover out;
  out.previous = previous.raw();
  out.pod_init_program = pod_init.raw();
  out.listener = listener_.raw();
  for (const auto& [socket, peer] : peers_) out.peers.push_back({socket, peer->client()});
  out.answers = requests_.hand_over();
  out.asked_by = key.client;
  out.request = key.id;
  out.sandbox_made = sandbox_requested_ && sandbox_.has_value();
  if (sandbox_) {
    out.namespaces = sandbox_->namespaces;
    if (sandbox_->pod_init) {
      out.pod_init = sandbox_->pod_init->pidfd().raw();
      out.pod_init_record = sandbox_->pod_init_record;
    }
  }
  for (const auto& [id, container] : containers_) {
    out.containers.push_back({.info = container->info,
                              .own_pid_namespace = container->own_pid_namespace,
                              .log_directory = container->log_directory,
                              .log_path = container->log_path,
                              .init = container->init.pidfd().raw(),
                              .gated = container->gated,
                              .gate = container->gate.raw(),
                              .report = container->report.raw(),
                              .streams = container->io->hand_over()});
  }
  for (const auto& [pid, exec] : execs_)
    out.execs.push_back({pid, exec.id, exec.container_id, exec.process.pidfd().raw(), {}});
  for (const EndedExec& exec : ended_execs_)
    out.ended_execs.push_back({exec.session, exec.id, exec.container_id, kNoFd, exec.exit_code});
  out.next_exec = next_exec_;
  for (const pid_t session : workers_.given_up()) out.given_up_sessions.push_back(session);
  out.logged_bytes = logged_bytes_;
  return out;
}

Error Monitor::become(sys::FdRef program, const Handover& handover) {
  auto state = sys::sealed_memfd("handover", encode(handover));
  if (!state.ok()) return std::move(state).error();
  if (syscall(SYS_close_range, STDERR_FILENO + 1, ~0U, CLOSE_RANGE_CLOEXEC) != 0)
    return Error::from_errno(errno, "close_range(CLOSE_RANGE_CLOEXEC)");
  std::vector<int> kept = descriptors_of(handover);
  kept.push_back(state->raw());
  for (const int fd : kept) {
    if (auto set = on_exec(fd, OnExec::kKeep); !set.ok()) return std::move(set).error();
  }
  Error error = execute(program, {"fluyt-monitor", options_.sandbox_id, options_.state_dir,
                                  options_.cgroup, resume_word(state->raw(), handover.previous)});
  for (const int fd : kept) on_exec(fd, OnExec::kClose).ignore("it is open, as it was before");
  return error;
}

std::string resume_word(int state, int previous) { return cat("resume:", state, ":", previous); }

std::optional<ResumeWord> parse_resume_word(std::string_view text) {
  const auto words = split(text, ':');
  if (words.size() != 3 || words[0] != "resume") return std::nullopt;
  const auto state = parse_number<int>(words[1]);
  const auto previous = parse_number<int>(words[2]);
  if (!state || *state <= STDERR_FILENO || !previous) return std::nullopt;
  return ResumeWord{*state, *previous};
}

Error go_back(char* const* argv, ResumeWord word) {
  if (word.previous == kNoFd) return Error(Code::kInternal, "there is no program to go back to");
  // All that resume() may have set; what it does not know was left as it was.
  if (auto handover = read_handover(sys::FdRef(word.state)); handover.ok()) {
    for (const int fd : descriptors_of(*handover))
      on_exec(fd, OnExec::kKeep).ignore("it says so itself when one is missing");
  }
  return execute(sys::FdRef(word.previous),
                 {argv[0], argv[1], argv[2], argv[3], resume_word(word.state, kNoFd)});
}

Result<std::unique_ptr<Monitor>> Monitor::resume(MonitorOptions options, ResumeWord word) {
  Handover handover = FLUYT_TRY(read_handover(sys::FdRef(word.state)));
  for (const int fd : descriptors_of(handover)) FLUYT_TRY(on_exec(fd, OnExec::kClose));
  // Nobody to go back to: we are who handed over, come back.
  handover.refused = word.previous == kNoFd;
  auto loop = FLUYT_TRY(Loop::create());
  options.pod_init_program = sys::Fd(handover.pod_init_program);
  std::unique_ptr<Monitor> monitor(new Monitor(std::move(options), std::move(loop)));
  FLUYT_TRY(monitor->prepare_process());
  FLUYT_TRY(monitor->take_over(std::move(handover)));
  return monitor;
}

Result<> Monitor::take_over(Handover handover) {
  const sys::Fd previous(handover.previous);
  listener_ = sys::Fd(handover.listener);
  FLUYT_TRY(loop_.epoll().add(listener_, EPOLLIN, [this](uint32_t) { on_listener(); }));
  std::string warning;
  runtime_ = runtime_on_record(options_.state_dir, host_, warning);
  if (!warning.empty()) log(warning);
  logged_bytes_ = handover.logged_bytes;
  sandbox_requested_ = handover.sandbox_made;
  if (handover.sandbox_made) {
    sandbox_.emplace();
    sandbox_->namespaces = std::move(handover.namespaces);
    if (handover.pod_init != kNoFd) {
      sandbox_->pod_init = process_of(handover.pod_init_record.pid, handover.pod_init);
      sandbox_->pod_init_record = std::move(handover.pod_init_record);
    }
  }
  for (HandoverExec& exec : handover.execs)
    execs_[exec.pid] = {exec.id, exec.container_id, process_of(exec.pid, exec.process)};
  for (HandoverExec& exec : handover.ended_execs)
    ended_execs_.push_back({exec.id, exec.container_id, exec.pid, exec.exit_code});
  next_exec_ = handover.next_exec;
  for (const int32_t session : handover.given_up_sessions) workers_.note_given_up(session);
  for (HandoverContainer& container : handover.containers)
    FLUYT_TRY(take_over_container(std::move(container)));
  requests_.take_over(std::move(handover.answers));
  for (const HandoverPeer& peer : handover.peers) add_peer(sys::Fd(peer.socket), peer.client);
  // Whoever asked for us hears it from us.
  const RequestKey key{handover.asked_by, handover.request};
  for (const auto& [socket, peer] : peers_) {
    if (peer->client() == key.client) requests_.begin(key, peer);
  }
  if (handover.refused) {
    requests_.finish(key, Error(Code::kFailedPrecondition,
                                "replace: the other program could not go on from here"));
  } else {
    requests_.finish(key, wire::Outcome(wire::HelloAnswer{kProtocolVersion, std::string(release()),
                                                          options_.sandbox_id, getpid()}));
    log(cat("fluyt ", release(), " goes on in its place"));
  }
  // What ended while nobody was looking is told by no signal any more.
  loop_.defer([this] { on_children(); });
  return {};
}

Result<> Monitor::take_over_container(HandoverContainer from) {
  auto container = std::make_unique<Container>();
  const std::string id = from.info.id;
  container->info = std::move(from.info);
  container->own_pid_namespace = from.own_pid_namespace;
  container->log_directory = std::move(from.log_directory);
  container->log_path = std::move(from.log_path);
  container->init = process_of(container->info.pid, from.init);
  container->gated = from.gated;
  container->gate = sys::Fd(from.gate);
  container->report = sys::Fd(from.report);
  container->io = ContainerIo::take_over(loop_, from.streams);
  if (container->info.state == ContainerState::kExited) {
    container->reaped = true;
    container->io->close();
  } else {
    FLUYT_TRY(container->io->watch([this, id] { finish_exit(id); }));
    FLUYT_TRY(container->io->take_over_clients(from.streams));
    watch_oom(*container);
  }
  containers_[id] = std::move(container);
  return {};
}

}  // namespace fluyt::monitor
