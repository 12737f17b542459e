#include "streaming/exec.h"

#include <optional>
#include <utility>

#include "streaming/pump.h"
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
    out_.reset();
    err_.reset();
    in_.reset();
    console_.reset();
    if (session_) context_.farewells.add(std::move(session_));
  }

  void on_ready() override;
  void on_input(std::string_view bytes) override;
  void on_input_end() override;
  void on_resize(TerminalSize size) override;
  void on_room() override;

 private:
  using Session = std::unique_ptr<engine::ExecSession>;
  void started(Result<Session> session);
  Result<> connect();
  Result<> connect_input(sys::Fd fd, Sink::End end);
  Result<std::unique_ptr<Source>> connect_output(sys::Fd fd, Channel channel);
  void output(Channel channel, std::string_view bytes);
  void exited();
  void end_if_done();
  void end(const Outcome& outcome);

  Context& context_;
  const ExecCall call_;
  Client& client_;
  Session session_;
  std::unique_ptr<Loop::Watch> exit_;
  std::unique_ptr<Sink> in_;
  std::unique_ptr<Source> out_;
  std::unique_ptr<Source> err_;
  sys::Fd console_;    // for its size
  std::string early_;  // input from before the process
  bool input_done_ = false;
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
  on_input(std::exchange(early_, {}));
  if (input_done_) on_input_end();
}

Result<> Exec::connect() {
  if (session_->console.valid()) {
    console_ = FLUYT_TRY(sys::duplicate(session_->console));
    FLUYT_TRY(connect_input(FLUYT_TRY(sys::duplicate(session_->console)), Sink::End::kNothing));
    out_ = FLUYT_TRY(connect_output(std::move(session_->console), Channel::kOut));
  } else {
    if (session_->in.valid()) FLUYT_TRY(connect_input(std::move(session_->in), Sink::End::kClose));
    out_ = FLUYT_TRY(connect_output(std::move(session_->out), Channel::kOut));
    err_ = FLUYT_TRY(connect_output(std::move(session_->err), Channel::kErr));
  }
  exit_ = FLUYT_TRY(context_.loop.watch(FLUYT_TRY(sys::duplicate(FLUYT_TRY(session_->exit_fd())))));
  exit_->when_readable([this] { exited(); });
  return {};
}

Result<> Exec::connect_input(sys::Fd fd, Sink::End end) {
  in_ = FLUYT_TRY(
      Sink::create(context_.loop, std::move(fd), end, [this] { client_.resume_input(); }));
  return {};
}

Result<std::unique_ptr<Source>> Exec::connect_output(sys::Fd fd, Channel channel) {
  return Source::create(context_.loop, std::move(fd),
                        [this, channel](std::string_view bytes) { output(channel, bytes); });
}

void Exec::output(Channel channel, std::string_view bytes) {
  if (bytes.empty()) {
    (channel == Channel::kOut ? out_ : err_).reset();
    end_if_done();
    return;
  }
  client_.send(channel, bytes);
  if (!client_.is_full()) return;
  if (out_) out_->pause();
  if (err_) err_->pause();
}

void Exec::on_room() {
  if (out_) out_->resume();
  if (err_) err_->resume();
}

void Exec::on_input(std::string_view bytes) {
  if (!call_.streams.in || bytes.empty() || ended_) return;
  if (!session_) {
    early_ += bytes;
    client_.hold_input();  // until there is somebody to read it
    return;
  }
  if (!in_) return;
  in_->write(bytes);
  if (in_->is_full()) {
    client_.hold_input();
  } else {
    client_.resume_input();
  }
}

void Exec::on_input_end() {
  input_done_ = true;
  if (in_ && !console_.valid()) in_->finish();
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
  if (out_ && console_.valid()) {
    out_->end_when_quiet();
  } else {
    if (out_) out_->end_after_what_is_there();
    if (err_) err_->end_after_what_is_there();
  }
  end_if_done();
}

void Exec::end_if_done() {
  if (code_ && !out_ && !err_) end(streaming::exited(*code_));
}

void Exec::end(const Outcome& outcome) {
  if (std::exchange(ended_, true)) return;
  client_.end(outcome);
}

}  // namespace

std::shared_ptr<Relay> make_exec(Context& context, ExecCall call, Client& client) {
  return std::make_shared<Exec>(context, std::move(call), client);
}

}  // namespace fluyt::streaming
