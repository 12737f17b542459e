#include <signal.h>
#include <sys/ioctl.h>
#include <termios.h>

#include <thread>

#include "base/strings.h"
#include "control/service.h"
#include "control/streams.h"
#include "rpc/status.h"
#include "sys/file.h"

namespace fluyt::control {

namespace {

using Stream = grpc::ServerReaderWriter<v1::ExecResponse, v1::ExecRequest>;

// How long a caller may keep its side open after it has got the exit code.
constexpr int64_t kGoodbyeMs = 5000;

Result<engine::ExecOptions> options_of(const v1::ExecRequest::Start& start) {
  engine::ExecOptions options;
  options.args.assign(start.args().begin(), start.args().end());
  if (options.args.empty()) return Error(Code::kInvalidArgument, "args: a command is expected");
  for (const v1::EnvVar& env : start.envs()) options.envs.push_back({env.name(), env.value()});
  options.cwd = start.working_dir();
  options.user = start.user();
  options.terminal = start.terminal();
  options.with_stdin = start.stdin();
  options.width = static_cast<uint16_t>(start.size().width());
  options.height = static_cast<uint16_t>(start.size().height());
  return options;
}

void resize(sys::FdRef console, const v1::TerminalSize& size) {
  winsize wanted{};
  wanted.ws_row = static_cast<unsigned short>(size.height());
  wanted.ws_col = static_cast<unsigned short>(size.width());
  // A console that is closed on the other side has no size any more.
  if (console.valid()) (void)::ioctl(console.raw(), TIOCSWINSZ, &wanted);
}

// One exec under way. Three threads: the call's own moves output, `reader_` what the caller sends,
// `waiter_` waits for the process.
class RunningExec {
 public:
  RunningExec(Stream& stream, std::unique_ptr<engine::ExecSession> session, Flag gone, Flag ended,
              Flag input_done)
      : stream_(stream),
        session_(std::move(session)),
        gone_(std::move(gone)),
        ended_(std::move(ended)),
        input_done_(std::move(input_done)) {}

  grpc::Status run(grpc::ServerContext& context);

 private:
  Result<std::vector<Source>> prepare();
  void read_requests();
  void take(const v1::ExecRequest& request);
  bool send(std::string_view data, bool is_stderr);

  Stream& stream_;
  std::unique_ptr<engine::ExecSession> session_;
  Flag gone_;        // the caller closed its side or vanished
  Flag ended_;       // the process has ended
  Flag input_done_;  // nobody wants input any more
  sys::Fd in_;       // touched by the reader alone once it runs
  sys::Fd console_;
  std::optional<Result<std::optional<int32_t>>> result_;
};

bool RunningExec::send(std::string_view data, bool is_stderr) {
  v1::ExecResponse response;
  (is_stderr ? *response.mutable_stderr() : *response.mutable_stdout()) = data;
  return stream_.Write(response);
}

Result<std::vector<Source>> RunningExec::prepare() {
  std::vector<Source> sources;
  auto add = [&](sys::Fd fd, bool is_stderr) -> Result<> {
    if (!fd.valid()) return {};
    FLUYT_TRY(sys::set_nonblocking(fd, true));
    sources.push_back({std::move(fd),
                       [this, is_stderr](std::string_view data) { return send(data, is_stderr); }});
    return {};
  };
  if (session_->console.valid()) {
    console_ = FLUYT_TRY(sys::duplicate(session_->console));
    FLUYT_TRY(add(std::move(session_->console), false));
    return sources;
  }
  in_ = std::move(session_->in);
  if (in_.valid()) FLUYT_TRY(sys::set_nonblocking(in_, true));
  FLUYT_TRY(add(std::move(session_->out), false));
  FLUYT_TRY(add(std::move(session_->err), true));
  return sources;
}

void RunningExec::take(const v1::ExecRequest& request) {
  switch (request.part_case()) {
    case v1::ExecRequest::kStdin: {
      const sys::FdRef to = console_.valid() ? console_.ref() : in_.ref();
      // What nobody reads is dropped, as a closed pipe does it to any program.
      if (to.valid() && !write_until(to, request.stdin(), input_done_)) in_.reset();
      break;
    }
    case v1::ExecRequest::kCloseStdin:
      in_.reset();
      break;
    case v1::ExecRequest::kSize:
      resize(console_, request.size());
      break;
    case v1::ExecRequest::kSignal:
      session_->kill(request.signal()).ignore("it may have ended");
      break;
    default:
      break;  // a newer caller's
  }
}

void RunningExec::read_requests() {
  v1::ExecRequest request;
  while (stream_.Read(&request)) take(request);
  gone_.set();
}

grpc::Status RunningExec::run(grpc::ServerContext& context) {
  auto sources = prepare();
  if (!sources.ok()) return to_status(sources.error());
  v1::ExecResponse started;
  started.mutable_started();
  stream_.Write(started);

  std::thread reader([this] { read_requests(); });
  std::thread waiter([this] {
    result_.emplace(session_->wait(Deadline::never()));
    ended_.set();
  });
  PumpEnd end = pump(*sources, gone_, ended_);
  // It may have closed its output and go on.
  if (end == PumpEnd::kAllEnded && wait_first(gone_, ended_) == First::kFirst) {
    end = PumpEnd::kStopped;
  }
  if (end == PumpEnd::kStopped) session_->kill(SIGKILL).ignore("it may have ended");
  waiter.join();
  input_done_.set();

  grpc::Status status = grpc::Status::OK;
  if (end == PumpEnd::kStopped) {
    status = {grpc::StatusCode::CANCELLED, "the caller went away: the process was killed"};
  } else if (!result_->ok()) {
    status = to_status(result_->error());
  } else {
    v1::ExecResponse last;
    last.set_exit_code(result_->value().value_or(-1));
    stream_.Write(last);
  }
  if (!wait_until_set(gone_, Deadline::after_ms(kGoodbyeMs))) context.TryCancel();
  reader.join();
  return status;
}

}  // namespace

grpc::Status ControlService::Exec(grpc::ServerContext* context, Stream* stream) {
  v1::ExecRequest first;
  if (!stream->Read(&first) || !first.has_start()) {
    return {grpc::StatusCode::INVALID_ARGUMENT, "exec: the first message must be start"};
  }
  auto gone = Flag::create();
  auto ended = Flag::create();
  auto input_done = Flag::create();
  if (!gone.ok() || !ended.ok() || !input_done.ok()) {
    return {grpc::StatusCode::RESOURCE_EXHAUSTED, "exec: no descriptors are left"};
  }
  auto options = options_of(first.start());
  if (!options.ok()) return to_status(options.error());
  auto session = engine_.start_exec(first.start().container_id(), *options);
  if (!session.ok()) return to_status(session.error());
  RunningExec exec(*stream, std::move(*session), std::move(*gone), std::move(*ended),
                   std::move(*input_done));
  return exec.run(*context);
}

}  // namespace fluyt::control
