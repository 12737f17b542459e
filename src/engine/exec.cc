#include <poll.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <functional>
#include <optional>

#include "base/strings.h"
#include "base/trace.h"
#include "engine/core.h"
#include "engine/exec_process.h"
#include "sys/file.h"
#include "sys/pty.h"

namespace fluyt::engine {

Error about_program(Error error) {
  if (error.code() != Code::kNotFound) return error;
  return std::move(error).with_code(Code::kInvalidArgument);
}

namespace {

constexpr int kSigkill = 9;
constexpr int64_t kStartMs = 30'000;
constexpr int64_t kReapMs = 5'000;
/// After the exit, what the pipes still hold is read, never waited for: a child left behind may
/// keep them open for ever. More than the pipes' capacity would be its writing.
constexpr size_t kMaxDrain = 1UL << 20U;

struct Target {
  ContainerPtr container;
  std::shared_ptr<monitor::Client> client;
};

Result<Target> running(Engine::Core& core, const std::string& id) {
  const ContainerEntryPtr entry = FLUYT_TRY(core.get_container(id));
  auto client = FLUYT_TRY(core.find_client(*entry->sandbox));
  Target target{entry->value(), std::move(client)};
  if (target.container->state != ContainerState::kRunning || !target.client) {
    return Error(Code::kFailedPrecondition,
                 cat("container ", target.container->id, " is ", name_of(target.container->state),
                     ": expected running"));
  }
  return target;
}

enum class Read { kMore, kNothingNow, kEnd };

/// Reads once from a non-blocking pipe; keeps up to kMaxExecOutput of it all.
Read read_into(sys::FdRef fd, std::string& kept, size_t& seen) {
  std::array<char, 64UL << 10U>
      buffer;  // NOLINT(cppcoreguidelines-pro-type-member-init): read into
  const auto size = sys::read_some(fd, buffer);
  if (!size.ok()) return size.error().errno_value() == EAGAIN ? Read::kNothingNow : Read::kEnd;
  if (*size == 0) return Read::kEnd;
  seen += *size;
  kept.append(buffer.data(), std::min(*size, kMaxExecOutput - kept.size()));
  return Read::kMore;
}

struct Stream {
  sys::Fd fd;
  std::string kept;
  size_t seen = 0;
  bool open = true;

  void read() {
    switch (read_into(fd, kept, seen)) {
      case Read::kEnd:
        open = false;
        break;
      case Read::kMore:
      case Read::kNothingNow:
        break;
    }
  }
  void drain() {
    const size_t before = seen;
    while (open && seen - before < kMaxDrain) {
      const Read got = read_into(fd, kept, seen);
      if (got == Read::kEnd) open = false;
      if (got != Read::kMore) return;
    }
  }
};

enum class Collected { kExit, kTimeout, kGivenUp };

/// Reads both streams until the exec has exited, the deadline is reached or nobody wants it.
Result<Collected> collect(Stream& out, Stream& err, ExecWait& wait, Deadline deadline,
                          const std::function<bool()>& is_given_up) {
  constexpr int kLookMs = 200;
  const sys::FdRef wake = FLUYT_TRY(wait.wake_fd());
  while (true) {
    std::array<pollfd, 3> polled = {pollfd{wake.raw(), POLLIN, 0},
                                    pollfd{out.open ? out.fd.raw() : -1, POLLIN, 0},
                                    pollfd{err.open ? err.fd.raw() : -1, POLLIN, 0}};
    int left_ms = deadline.poll_timeout_ms();
    if (is_given_up && (left_ms < 0 || left_ms > kLookMs)) left_ms = kLookMs;
    const int ready = ::poll(polled.data(), polled.size(), left_ms);
    if (ready < 0 && errno != EINTR) return Error::from_errno(errno, "poll(exec)");
    if (polled[1].revents != 0) out.read();
    if (polled[2].revents != 0) err.read();
    if (polled[0].revents != 0 || wait.code()) {
      out.drain();
      err.drain();
      return Collected::kExit;
    }
    if (deadline.passed()) return Collected::kTimeout;
    if (is_given_up && is_given_up()) return Collected::kGivenUp;
  }
}

class Session final : public ExecSession {
 public:
  Session(std::shared_ptr<Engine::Core> core, Target target, monitor::ExecStarted started)
      : core_(std::move(core)),
        target_(std::move(target)),
        exec_id_(started.exec_id),
        wait_(core_->execs.claim(target_.container->sandbox_id, exec_id_)) {
    console = std::move(started.console);
  }
  Session(const Session&) = delete;
  Session& operator=(const Session&) = delete;
  ~Session() override {
    if (!wait_->code()) {
      target_.client->kill_exec(exec_id_, kSigkill).ignore("whoever asked for it is gone");
    }
    core_->execs.forget(target_.container->sandbox_id, exec_id_);
  }

  Result<std::optional<int32_t>> wait(Deadline deadline) override { return wait_->wait(deadline); }
  Result<sys::FdRef> exit_fd() override { return wait_->wake_fd(); }
  Result<> kill(int signal) override { return target_.client->kill_exec(exec_id_, signal); }
  ExecWait& exit() { return *wait_; }

 private:
  std::shared_ptr<Engine::Core> core_;
  Target target_;
  uint64_t exec_id_;
  ExecWaitPtr wait_;
};

Result<std::unique_ptr<Session>> start(const std::shared_ptr<Engine::Core>& core, Target target,
                                       const ExecOptions& options, int64_t start_ms) {
  monitor::ExecRequest request;
  request.container_id = target.container->id;
  request.process_json = FLUYT_TRY(exec_process_json(*core, *target.container, options));
  request.terminal = options.terminal;
  request.start_deadline_ms = start_ms;
  sys::Pipe in;
  sys::Pipe out;
  sys::Pipe err;
  if (!options.terminal) {
    if (options.with_stdin) in = FLUYT_TRY(sys::make_pipe());
    out = FLUYT_TRY(sys::make_pipe());
    err = FLUYT_TRY(sys::make_pipe());
    request.in = in.read;
    request.out = out.write;
    request.err = err.write;
  }
  const ExecTable::Starting starting(core->execs, target.container->sandbox_id);
  auto started = target.client->exec(request);
  if (!started.ok()) {
    return about_program(std::move(started).error())
        .add_context(
            cat("container ", target.container->id, ": exec ", quote(options.args.front())));
  }
  auto session = std::make_unique<Session>(core, std::move(target), std::move(started).value());
  session->in = std::move(in.write);
  session->out = std::move(out.read);
  session->err = std::move(err.read);
  if (session->console.valid() && options.height != 0) {
    FLUYT_TRY(sys::set_window_size(session->console, options.height, options.width));
  }
  return session;
}

}  // namespace

Result<ExecSyncResult> Engine::exec_sync(const ExecSyncRequest& request) {
  if (request.command.empty()) {
    return Error(Code::kInvalidArgument, "cmd: []: expected a program and its arguments");
  }
  const Deadline deadline =
      request.timeout_ms > 0 ? Deadline::after_ms(request.timeout_ms) : Deadline::never();
  trace::Request walk(core_->traces, "ExecSync");
  Target target = FLUYT_TRY(running(*core_, request.container_id));
  const std::string id = target.container->id;
  walk.of(target.container->sandbox_id, id);
  const int64_t start_ms =
      request.timeout_ms > 0 ? std::min(request.timeout_ms, kStartMs) : kStartMs;
  std::optional<trace::Span> span(std::in_place, "monitor and runtime");
  const auto session = FLUYT_TRY(
      walk.ended(start(core_, std::move(target), ExecOptions{.args = request.command}, start_ms)));
  span.emplace("program");

  Stream out{.fd = std::move(session->out), .kept = {}};
  Stream err{.fd = std::move(session->err), .kept = {}};
  FLUYT_TRY(sys::set_nonblocking(out.fd, true));
  FLUYT_TRY(sys::set_nonblocking(err.fd, true));
  const Collected how =
      FLUYT_TRY(collect(out, err, session->exit(), deadline, request.is_given_up));
  if (how != Collected::kExit) {
    FLUYT_TRY(session->kill(kSigkill));
    // Seen to its end, so that a probe's process never overlaps the next one's.
    (void)session->exit().wait(Deadline::after_ms(kReapMs));
    const std::string what = cat("container ", id, ": exec ", quote(request.command.front()));
    if (how == Collected::kGivenUp)
      return Error(Code::kCancelled, cat(what, ": nobody waits for it any more; killed"));
    return Error(Code::kDeadlineExceeded, cat(what, ": did not end within its timeout of ",
                                              request.timeout_ms, " ms; killed"));
  }
  return ExecSyncResult{session->exit().code().value_or(-1), std::move(out.kept),
                        std::move(err.kept)};
}

Result<std::unique_ptr<ExecSession>> Engine::start_exec(const std::string& container_id,
                                                        const ExecOptions& options) {
  if (options.args.empty()) {
    return Error(Code::kInvalidArgument, "cmd: []: expected a program and its arguments");
  }
  Target target = FLUYT_TRY(running(*core_, container_id));
  return std::unique_ptr<ExecSession>(
      FLUYT_TRY(start(core_, std::move(target), options, kStartMs)));
}

}  // namespace fluyt::engine
