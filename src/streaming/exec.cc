#include "streaming/exec.h"

#include <optional>
#include <utility>

#include "streaming/client_pumps.h"
#include "sys/file.h"
#include "sys/pty.h"

namespace fluyt::streaming {
namespace {

class Exec final : public Relay, public std::enable_shared_from_this<Exec> {
 public:
  Exec(Context& context, ExecCall call, Client& client)
      : context_(context), call_(std::move(call)), client_(client) {}
  Exec(const Exec&) = delete;
  Exec& operator=(const Exec&) = delete;
  ~Exec() override {
    exit_.reset();
    pumps_.close();
    console_.reset();
    if (session_) context_.farewells.add(std::move(session_));
  }

  void on_ready() override;
  void on_input(std::string_view bytes) override { pumps_.on_input(bytes); }
  void on_input_end() override { pumps_.on_input_end(); }
  void on_resize(TerminalSize size) override;
  void on_room() override { pumps_.on_room(); }

 private:
  using Session = std::unique_ptr<engine::ExecSession>;
  void started(Result<Session> session);
  Result<> connect();
  void exited();
  void end_if_done();
  void end(const Outcome& outcome);

  Context& context_;
  const ExecCall call_;
  Client& client_;
  Session session_;
  std::unique_ptr<Loop::Watch> exit_;
  ClientPumps pumps_{context_.loop, client_, call_.streams.in, [this] { end_if_done(); }};
  sys::Fd console_;  // for its size
  std::optional<TerminalSize> size_;
  std::optional<int32_t> code_;
  bool ended_ = false;
};

void Exec::on_ready() {
  engine::ExecOptions options;
  options.args = call_.command;
  options.terminal = call_.streams.terminal;
  options.with_stdin = call_.streams.in;
  if (size_) {
    options.height = size_->height;
    options.width = size_->width;
  }
  context_.workers.post([weak = weak_from_this(), &context = context_, id = call_.container_id,
                         options = std::move(options)] {
    auto made = std::make_shared<Result<Session>>(context.engine.start_exec(id, options));
    context.loop.post([weak, &context, made] {
      if (const auto self = weak.lock()) {
        self->started(std::move(*made));
      } else if (made->ok()) {
        context.farewells.add(std::move(**made));  // the client did not wait
      }
    });
  });
}

void Exec::started(Result<Session> session) {
  if (!session.ok()) {
    end(failed("error executing command in container: " + session.error().message()));
    return;
  }
  session_ = std::move(*session);
  const auto connected = connect();
  if (!connected.ok()) {
    end(failed(connected.error().message()));
    return;
  }
  if (size_) on_resize(*size_);
  pumps_.open();
}

Result<> Exec::connect() {
  if (session_->console.valid()) {
    console_ = FLUYT_TRY(sys::duplicate(session_->console));
    FLUYT_TRY(
        pumps_.connect_input(FLUYT_TRY(sys::duplicate(session_->console)), Sink::End::kNothing));
    FLUYT_TRY(pumps_.connect_output(std::move(session_->console), Channel::kOut));
  } else {
    if (session_->in.valid())
      FLUYT_TRY(pumps_.connect_input(std::move(session_->in), Sink::End::kClose));
    FLUYT_TRY(pumps_.connect_output(std::move(session_->out), Channel::kOut));
    FLUYT_TRY(pumps_.connect_output(std::move(session_->err), Channel::kErr));
  }
  exit_ = FLUYT_TRY(context_.loop.watch(FLUYT_TRY(sys::duplicate(FLUYT_TRY(session_->exit_fd())))));
  exit_->when_readable([this] { exited(); });
  return {};
}

void Exec::on_resize(TerminalSize size) {
  size_ = size;
  if (!console_.valid()) return;
  sys::set_window_size(console_, size.height, size.width)
      .ignore("a terminal that was hung up has no size any more");
}

void Exec::exited() {
  const auto code = session_->wait(Deadline::after_ms(0));
  code_ = code.ok() ? code->value_or(-1) : -1;
  exit_.reset();
  // A child that was left behind may hold the output for ever: what is there now still counts.
  if (pumps_.out() != nullptr && console_.valid()) {
    pumps_.out()->end_when_quiet();
  } else {
    if (pumps_.out() != nullptr) pumps_.out()->end_after_what_is_there();
    if (pumps_.err() != nullptr) pumps_.err()->end_after_what_is_there();
  }
  end_if_done();
}

void Exec::end_if_done() {
  if (code_ && !pumps_.has_output()) end(streaming::exited(*code_));
}

void Exec::end(const Outcome& outcome) {
  if (std::exchange(ended_, true)) return;
  pumps_.refuse_input();
  client_.end(outcome);
}

}  // namespace

std::shared_ptr<Relay> make_exec(Context& context, ExecCall call, Client& client) {
  return std::make_shared<Exec>(context, std::move(call), client);
}

}  // namespace fluyt::streaming
