#include "streaming/attach.h"

#include <fcntl.h>

#include <optional>
#include <utility>

#include "base/strings.h"
#include "streaming/client_pumps.h"
#include "sys/file.h"

namespace fluyt::streaming {
namespace {

// A client that is slower for a moment is dropped later than with the usual 64 KiB.
constexpr int kPipeBytes = 1 << 20;
constexpr int64_t kExitMs = 1'000;

/// The pipes between us and the monitor, whose ends it is lent for the call.
struct Pipes {
  sys::Pipe in;
  sys::Pipe out;
  sys::Pipe err;
};

Result<Pipes> make_pipes() {
  Pipes pipes;
  for (sys::Pipe* pipe : {&pipes.in, &pipes.out, &pipes.err}) *pipe = FLUYT_TRY(sys::make_pipe());
  for (const sys::Fd* fd : {&pipes.out.read, &pipes.err.read}) {
    (void)::fcntl(fd->raw(), F_SETPIPE_SZ, kPipeBytes);  // a host that allows less has less
  }
  return pipes;
}

class Attach final : public Relay, public std::enable_shared_from_this<Attach> {
 public:
  Attach(Context& context, AttachCall call, Client& client)
      : context_(context), call_(std::move(call)), client_(client) {}

  void on_ready() override;
  void on_input(std::string_view bytes) override { pumps_.on_input(bytes); }
  void on_input_end() override { pumps_.on_input_end(); }
  void on_resize(TerminalSize size) override;
  void on_room() override { pumps_.on_room(); }

 private:
  void connected(Result<Pipes> pipes);
  Result<> take(Pipes pipes);
  void output_ended();
  void send_size();
  void end(const Outcome& outcome);

  Context& context_;
  const AttachCall call_;
  Client& client_;
  ClientPumps pumps_{context_.loop, client_, call_.streams.in, [this] {
                       if (!pumps_.has_output()) output_ended();
                     }};
  bool connected_ = false;
  bool ended_ = false;
  std::optional<TerminalSize> size_;  // not told yet
  bool telling_size_ = false;
};

void Attach::on_ready() {
  context_.workers.post([weak = weak_from_this(), &context = context_, call = call_] {
    const auto attach = [&]() -> Result<Pipes> {
      Pipes pipes = FLUYT_TRY(make_pipes());
      engine::AttachRequest request{
          .container_id = call.container_id, .in = {}, .out = pipes.out.write, .err = {}};
      if (call.streams.in) request.in = pipes.in.read;
      if (!call.container_terminal) request.err = pipes.err.write;
      FLUYT_TRY(context.engine.attach(request));
      return pipes;
    };
    auto pipes = std::make_shared<Result<Pipes>>(attach());
    context.loop.post([weak, pipes] {
      if (const auto self = weak.lock()) self->connected(std::move(*pipes));
    });
  });
}

void Attach::connected(Result<Pipes> pipes) {
  auto taken = pipes.ok() ? take(std::move(*pipes)) : Result<>(std::move(pipes).error());
  if (!taken.ok()) {
    end(failed("error attaching to container: " + taken.error().message()));
    return;
  }
  connected_ = true;
  send_size();
  pumps_.open();
}

Result<> Attach::take(Pipes pipes) {
  if (call_.streams.in)
    FLUYT_TRY(pumps_.connect_input(std::move(pipes.in.write), Sink::End::kClose));
  FLUYT_TRY(pumps_.connect_output(std::move(pipes.out.read), Channel::kOut));
  if (!call_.container_terminal)
    FLUYT_TRY(pumps_.connect_output(std::move(pipes.err.read), Channel::kErr));
  return {};
}

/// The container has ended, or the monitor has dropped a client that was too slow: who was cut off
/// should know it.
void Attach::output_ended() {
  context_.workers.post([weak = weak_from_this(), &context = context_, id = call_.container_id] {
    const auto container = context.engine.wait_container(id, Deadline::after_ms(kExitMs));
    const bool runs = container.ok() && (*container)->state == engine::ContainerState::kRunning;
    context.loop.post([weak, runs] {
      if (const auto self = weak.lock()) {
        self->end(runs ? failed("the container runs on, but its output ends here: a client that is "
                                "1 MiB behind is dropped")
                       : Outcome{});
      }
    });
  });
}

void Attach::on_resize(TerminalSize size) {
  if (!call_.container_terminal) return;
  size_ = size;
  send_size();
}

/// One call at a time; of sizes that come meanwhile the last one counts.
void Attach::send_size() {
  if (!connected_ || telling_size_ || !size_) return;
  telling_size_ = true;
  const TerminalSize size = *std::exchange(size_, std::nullopt);
  context_.workers.post(
      [weak = weak_from_this(), &context = context_, id = call_.container_id, size] {
        context.engine.resize(id, size.height, size.width)
            .ignore("it may have ended, and is not worth the stream");
        context.loop.post([weak] {
          if (const auto self = weak.lock()) {
            self->telling_size_ = false;
            self->send_size();
          }
        });
      });
}

void Attach::end(const Outcome& outcome) {
  if (std::exchange(ended_, true)) return;
  pumps_.refuse_input();
  client_.end(outcome);
}

}  // namespace

std::shared_ptr<Relay> make_attach(Context& context, AttachCall call, Client& client) {
  return std::make_shared<Attach>(context, std::move(call), client);
}

}  // namespace fluyt::streaming
