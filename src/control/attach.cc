#include <fcntl.h>

#include <functional>
#include <thread>

#include "base/strings.h"
#include "control/service.h"
#include "control/streams.h"
#include "rpc/status.h"
#include "sys/file.h"

namespace fluyt::control {

namespace {

using ExitWatch = std::function<engine::ContainerPtr(Deadline)>;
using Stream = grpc::ServerReaderWriter<v1::AttachResponse, v1::AttachRequest>;

constexpr int64_t kGoodbyeMs = 5000;
constexpr int64_t kExitMs = 1000;
// A caller that is slower for a moment is dropped later than with the usual 64 KiB.
constexpr int kPipeBytes = 1 << 20;

// Our ends of the pipes between the call and the monitor.
struct Ends {
  sys::Fd in;  // written by the reader
  std::vector<Source> sources;
};

class RunningAttach {
 public:
  RunningAttach(engine::Engine& engine, Stream& stream, std::string id, ExitWatch exit, Flag gone,
                Flag done)
      : engine_(engine),
        stream_(stream),
        id_(std::move(id)),
        exit_(std::move(exit)),
        gone_(std::move(gone)),
        done_(std::move(done)) {}

  Result<> connect(bool with_stdin, bool terminal);
  grpc::Status run(grpc::ServerContext& context, bool terminal);

 private:
  bool send(std::string_view data, bool is_stderr);
  void read_requests();
  void take(const v1::AttachRequest& request);

  engine::Engine& engine_;
  Stream& stream_;
  const std::string id_;
  const ExitWatch exit_;  // of one that may be removed with its end
  Flag gone_;             // the caller closed its side or vanished
  Flag done_;             // output has ended: nobody takes input
  Ends ends_;
};

bool RunningAttach::send(std::string_view data, bool is_stderr) {
  v1::AttachResponse response;
  (is_stderr ? *response.mutable_stderr() : *response.mutable_stdout()) = data;
  return stream_.Write(response);
}

Result<> RunningAttach::connect(bool with_stdin, bool terminal) {
  sys::Pipe in = FLUYT_TRY(sys::make_pipe());
  sys::Pipe out = FLUYT_TRY(sys::make_pipe());
  sys::Pipe err = FLUYT_TRY(sys::make_pipe());
  monitor::AttachRequest request{.container_id = id_, .in = {}, .out = out.write, .err = {}};
  if (with_stdin) {
    request.in = in.read;
    FLUYT_TRY(sys::set_nonblocking(in.write, true));
    ends_.in = std::move(in.write);
  }
  auto add = [&](sys::Fd fd, bool is_stderr) -> Result<> {
    FLUYT_TRY(sys::set_nonblocking(fd, true));
    (void)::fcntl(fd.raw(), F_SETPIPE_SZ, kPipeBytes);  // a host that allows less has less
    ends_.sources.push_back({std::move(fd), [this, is_stderr](std::string_view data) {
                               return send(data, is_stderr);
                             }});
    return {};
  };
  FLUYT_TRY(add(std::move(out.read), false));
  if (!terminal) {
    request.err = err.write;
    FLUYT_TRY(add(std::move(err.read), true));
  }
  return engine_.attach(request);
}

void RunningAttach::take(const v1::AttachRequest& request) {
  switch (request.part_case()) {
    case v1::AttachRequest::kStdin:
      if (ends_.in.valid() && !write_until(ends_.in, request.stdin(), done_)) ends_.in.reset();
      break;
    case v1::AttachRequest::kCloseStdin:
      ends_.in.reset();
      break;
    case v1::AttachRequest::kSize:
      engine_
          .resize(id_, static_cast<uint16_t>(request.size().height()),
                  static_cast<uint16_t>(request.size().width()))
          .ignore("it may have ended, and is not worth the stream");
      break;
    default:
      break;  // a newer caller's
  }
}

void RunningAttach::read_requests() {
  v1::AttachRequest request;
  while (stream_.Read(&request)) take(request);
  gone_.set();
}

grpc::Status RunningAttach::run(grpc::ServerContext& context, bool terminal) {
  v1::AttachResponse started;
  started.mutable_started()->set_terminal(terminal);
  stream_.Write(started);
  std::thread reader([this] { read_requests(); });
  // No process of ours to wait for: the monitor closes the pipes when the container ends.
  const PumpEnd end = pump(ends_.sources, gone_, done_);
  for (Source& source : ends_.sources) source.fd.reset();
  done_.set();
  if (end != PumpEnd::kStopped) {
    v1::AttachResponse ended;
    // The pipes are closed a moment before the exit is known.
    const engine::ContainerPtr container = exit_(Deadline::after_ms(kExitMs));
    ended.mutable_ended()->set_container_runs(container->state == engine::ContainerState::kRunning);
    if (container->state == engine::ContainerState::kExited)
      ended.mutable_ended()->set_exit_code(container->exit_code);
    stream_.Write(ended);
  }
  if (end != PumpEnd::kStopped && !wait_until_set(gone_, Deadline::after_ms(kGoodbyeMs))) {
    context.TryCancel();
  }
  reader.join();
  return grpc::Status::OK;
}

}  // namespace

grpc::Status ControlService::Attach(grpc::ServerContext* context, Stream* stream) {
  v1::AttachRequest first;
  if (!stream->Read(&first) || !first.has_start()) {
    return {grpc::StatusCode::INVALID_ARGUMENT, "attach: the first message must be start"};
  }
  auto gone = Flag::create();
  auto done = Flag::create();
  if (!gone.ok() || !done.ok()) {
    return {grpc::StatusCode::RESOURCE_EXHAUSTED, "attach: no descriptors are left"};
  }
  auto container = engine_.get_container(first.start().container_id());
  if (!container.ok()) return to_status(container.error());
  const engine::ContainerConfig& config = container.value()->config;
  auto exit = engine_.watch_exit(container.value()->id);
  if (!exit.ok()) return to_status(exit.error());
  if (first.start().stdin() && !config.open_stdin) {
    return {grpc::StatusCode::FAILED_PRECONDITION,
            "attach: the container was made without standard input"};
  }
  RunningAttach attach(engine_, *stream, container.value()->id, std::move(*exit), std::move(*gone),
                       std::move(*done));
  auto connected = attach.connect(first.start().stdin(), config.tty);
  if (!connected.ok()) return to_status(connected.error());
  if (config.tty && first.start().has_size()) {
    engine_
        .resize(container.value()->id, static_cast<uint16_t>(first.start().size().height()),
                static_cast<uint16_t>(first.start().size().width()))
        .ignore("a container that is not started has its size set again at the start");
  }
  return attach.run(*context, config.tty);
}

}  // namespace fluyt::control
