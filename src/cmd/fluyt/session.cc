#include "cmd/fluyt/session.h"

#include <atomic>
#include <thread>

#include "base/strings.h"

namespace fluyt::cli {

namespace {

template <class Size>
void fill(Size& message) {
  const TerminalSize size = terminal_size(Stream::kIn);
  message.set_width(size.width);
  message.set_height(size.height);
}

// Process 1 of a container ignores signals that it has no handler for: a person who presses ^C
// again and again wants out.
constexpr int kPatience = 3;
// <signal.h> and CRI's enumeration of signals exclude each other.
constexpr int kSigpipe = 13;

// The thread that turns what the person does into requests of `call`.
template <class Call, class Request>
class Typing {
 public:
  using SignalHandler = std::function<void(int)>;
  Typing(Call& call, Input& input, bool terminal, SignalHandler on_signal, DetachKeys keys = {})
      : call_(call),
        input_(input),
        terminal_(terminal),
        on_signal_(std::move(on_signal)),
        keys_(std::move(keys)) {
    thread_ = std::thread([this] { run(); });
  }
  Typing(const Typing&) = delete;
  Typing& operator=(const Typing&) = delete;
  ~Typing() { stop(); }
  void stop() {
    if (!thread_.joinable()) return;
    input_.stop();
    thread_.join();
  }
  /// The signal that made us go, or 0.
  int ended_by() const { return ended_by_; }
  /// The keys for it were typed.
  bool left() const { return left_; }

 private:
  // False: the person has left.
  bool pass(std::string typed) {
    if (!terminal_) return send(std::move(typed));
    DetachKeys::Passed passed = keys_.pass(typed);
    if (!passed.typed.empty() && !send(std::move(passed.typed))) return false;
    if (!passed.detached) return true;
    left_ = true;
    call_.cancel();
    return false;
  }
  bool send(std::string typed) {
    Request request;
    request.set_stdin(std::move(typed));
    return call_.write(request);
  }

  void run() {
    while (true) {
      InputEvent event = input_.next();
      Request request;
      switch (event.kind) {
        case InputEvent::Kind::kStopped:
          return;
        case InputEvent::Kind::kBytes:
          if (!pass(std::move(event.bytes))) return;
          continue;
        case InputEvent::Kind::kEnd:
          request.set_close_stdin(true);
          break;
        case InputEvent::Kind::kResized:
          if (!terminal_) continue;
          fill(*request.mutable_size());
          break;
        case InputEvent::Kind::kSignal:
          if (asks_impatiently(event.signal)) ++impatience_;
          if ((terminal_ && asks_to_end(event.signal)) || impatience_ >= kPatience) {
            ended_by_ = event.signal;
            call_.cancel();
            return;
          }
          on_signal_(event.signal);
          continue;
      }
      if (!call_.write(request)) return;
    }
  }

  Call& call_;
  Input& input_;
  const bool terminal_;
  const SignalHandler on_signal_;
  DetachKeys keys_;
  int impatience_ = 0;
  std::atomic<int> ended_by_ = 0;
  std::atomic<bool> left_ = false;
  std::thread thread_;
};

// What the server says from the first response to the last; false when it was not the last one.
template <class Response>
bool show(const Response& response) {
  if (response.part_case() == Response::kStdout) return write_out(Stream::kOut, response.stdout());
  if (response.part_case() == Response::kStderr) return write_out(Stream::kErr, response.stderr());
  return true;
}

// Ends a call that has said all: our side first, since the server waits for it.
template <class Call, class Response>
Result<> say_goodbye(Call& call) {
  call.close_writing();
  Response response;
  while (call.read(response)) show(response);
  return call.finish();
}

Result<std::optional<RawMode>> enter_raw(bool terminal) {
  if (!terminal || !is_terminal(Stream::kIn)) return std::optional<RawMode>();
  return std::optional<RawMode>(FLUYT_TRY(RawMode::enter()));
}

}  // namespace

Result<int> run_exec(Client& client, Input& input, control::ExecRequest::Start start) {
  const bool terminal = start.terminal();
  const bool with_stdin = start.stdin();
  auto call = client.exec();
  if (terminal) fill(*start.mutable_size());
  control::ExecRequest request;
  *request.mutable_start() = std::move(start);
  control::ExecResponse response;
  if (!call->write(request) || !call->read(response)) {
    FLUYT_TRY(call->finish());
    return Error(Code::kInternal, "fluytd ended the exec without a word");
  }
  auto raw = FLUYT_TRY(enter_raw(terminal && with_stdin));
  std::optional<int> exit_code;
  int ended_by = 0;
  bool closed = false;  // our output: nobody reads it any more
  {
    // A signal goes through the same call: written by the same thread as input.
    Typing<ExecCall, control::ExecRequest> typing(*call, input, terminal, [&](int signal) {
      control::ExecRequest forwarded;
      forwarded.set_signal(signal);
      call->write(forwarded);
    });
    while (!exit_code && call->read(response)) {
      if (response.part_case() == control::ExecResponse::kExitCode)
        exit_code = response.exit_code();
      if (show(response)) continue;
      call->cancel();
      closed = true;
      break;
    }
    typing.stop();
    ended_by = closed ? kSigpipe : typing.ended_by();
  }
  raw.reset();
  if (ended_by != 0) {
    call->finish().ignore("we cancelled it");
    return 128 + ended_by;
  }
  auto end = say_goodbye<ExecCall, control::ExecResponse>(*call);
  if (exit_code) return *exit_code;
  if (!end.ok()) return std::move(end).error();
  return Error(Code::kInternal, "fluytd ended the exec without an exit code");
}

Result<AttachEnd> run_attach(Client& client, Input& input, control::AttachRequest::Start start,
                             DetachKeys keys, const std::function<Result<>()>& attached) {
  auto call = client.attach();
  const std::string id = start.container_id();
  const bool with_stdin = start.stdin();
  fill(*start.mutable_size());
  control::AttachRequest request;
  *request.mutable_start() = std::move(start);
  control::AttachResponse response;
  if (!call->write(request) || !call->read(response)) {
    FLUYT_TRY(call->finish());
    return Error(Code::kInternal, "fluytd ended the attach without a word");
  }
  const bool terminal = response.started().terminal() && with_stdin;
  if (auto ready = attached(); !ready.ok()) {
    call->cancel();
    call->finish().ignore("we cancelled it");
    return std::move(ready).error();
  }
  if (response.started().terminal()) {
    // Again: one that was started just now had no terminal yet to be sized.
    fill(*request.mutable_size());
    call->write(request);
  }
  auto raw = FLUYT_TRY(enter_raw(terminal));
  AttachEnd end;
  bool ended = false;
  bool early = false;
  {
    Typing<AttachCall, control::AttachRequest> typing(
        *call, input, terminal,
        [&](int signal) { client.signal(id, signal).ignore("it may have ended"); },
        std::move(keys));
    while (!ended && call->read(response)) {
      ended = response.part_case() == control::AttachResponse::kEnded;
      if (ended) early = response.ended().container_runs();
      if (ended && response.ended().has_exit_code()) end.exit_code = response.ended().exit_code();
      if (show(response)) continue;
      call->cancel();
      end.detached_by = kSigpipe;
      break;
    }
    typing.stop();
    if (typing.ended_by() != 0) end.detached_by = typing.ended_by();
    end.left = typing.left();
  }
  raw.reset();
  if (end.detached_by || end.left) {
    call->finish().ignore("we cancelled it");
    return end;
  }
  FLUYT_TRY(say_goodbye<AttachCall, control::AttachResponse>(*call));
  if (early) {
    write_out(
        Stream::kErr,
        "fluyt: output ended before the container did: it closed it, or this side was too slow; "
        "fluyt logs has the rest\n");
  }
  return end;
}

}  // namespace fluyt::cli
