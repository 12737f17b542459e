#include "streaming/port_forward.h"

#include <map>
#include <optional>
#include <string>
#include <utility>

#include "base/strings.h"
#include "streaming/dial.h"
#include "streaming/pump.h"
#include "streaming/spdy/session.h"
#include "sys/file.h"

namespace fluyt::streaming {
namespace {

constexpr size_t kMaxStreams = 512;  // two a connection
/// What is kept of a connection that is still being made.
constexpr size_t kMaxEarly = 128UL << 10U;

/// One forwarded connection.
///
///     waiting for its two streams -> dialling -> connected -> done
///
/// It is done when both directions have ended, when either side broke it, or when it failed.
struct Forwarded {
  std::string request;  // the client's name for the pair
  uint16_t port = 0;
  std::optional<uint32_t> data;
  std::optional<uint32_t> error;
  std::unique_ptr<Loop::Timer> late;
  std::unique_ptr<Dial> dial;
  std::string early;        // bytes of the client from before the connection
  bool input_done = false;  // the client sends nothing more
  bool output_done = false;
  std::unique_ptr<Loop::Timer> idle;  // since the client's end, while nothing comes
  std::unique_ptr<Source> from;
  std::unique_ptr<Sink> to;

  bool is_full() const { return to ? to->is_full() : early.size() > kMaxEarly; }
};
using ForwardedPtr = std::shared_ptr<Forwarded>;

class PortForward final : public Wire::Handler,
                          private spdy::SessionHandler,
                          public std::enable_shared_from_this<PortForward> {
 public:
  PortForward(Context& context, std::shared_ptr<Wire> wire, PortForwardCall call)
      : context_(context),
        wire_(std::move(wire)),
        call_(std::move(call)),
        session_(*this, kMaxStreams, [this](std::string bytes) { wire_->send(std::move(bytes)); }) {
  }

  void on_start() override {}
  void on_bytes(std::string_view bytes) override {
    if (!session_.feed(bytes).ok()) wire_->close();
    hold_or_resume();
  }
  void on_room() override {
    // Resuming one may end it, which changes the map.
    const auto all = by_request_;
    for (const auto& [request, one] : all) {
      if (one->from) one->from->resume();
    }
  }
  void on_gone() override {
    by_stream_.clear();
    by_request_.clear();
    gone_ = true;
  }

 private:
  bool on_stream(uint32_t id, const spdy::Headers& headers) override;
  void on_stream_data(uint32_t id, std::string_view bytes) override;
  void on_stream_end(uint32_t id) override;
  void on_stream_reset(uint32_t id) override;

  void dial_for(const ForwardedPtr& one);
  void connect_from(const ForwardedPtr& one, Result<DialSockets> sockets);
  void dialled(const ForwardedPtr& one, Result<sys::Fd> socket);
  Result<> connect(const ForwardedPtr& one, sys::Fd socket);
  void output(const ForwardedPtr& one, std::string_view bytes);
  void end_if_done(const ForwardedPtr& one);
  void wait_for_rest(const ForwardedPtr& one);
  void fail(const ForwardedPtr& one, const std::string& why);
  void forget(const ForwardedPtr& one);
  void hold_or_resume();
  bool is_here(const ForwardedPtr& one) const { return by_request_.contains(one->request); }

  Context& context_;
  std::shared_ptr<Wire> wire_;
  const PortForwardCall call_;
  spdy::Session session_;
  std::map<std::string, ForwardedPtr> by_request_;
  std::map<uint32_t, ForwardedPtr> by_stream_;
  bool held_ = false;
  bool gone_ = false;
};

bool PortForward::on_stream(uint32_t id, const spdy::Headers& headers) {
  const auto type = spdy::find_header(headers, "streamtype").value_or("");
  const auto port = parse_number<uint16_t>(spdy::find_header(headers, "port").value_or(""));
  const bool is_data = type == "data";
  if ((!is_data && type != "error") || !port || *port == 0) return false;
  // Clients before request ids made the error stream first, and the data stream right after it.
  const std::string request = std::string(
      spdy::find_header(headers, "requestid").value_or(std::to_string(is_data ? id - 2 : id)));
  ForwardedPtr& one = by_request_[request];
  if (!one) {
    one = std::make_shared<Forwarded>();
    one->request = request;
    one->port = *port;
    one->late = context_.loop.after(context_.streams_ms, [this, weak = std::weak_ptr(one)] {
      if (const auto late = weak.lock()) fail(late, "the second of its two streams did not come");
    });
  }
  std::optional<uint32_t>& place = is_data ? one->data : one->error;
  if (place || one->port != *port) return false;
  place = id;
  by_stream_[id] = one;
  if (one->data && one->error) dial_for(one);
  return true;
}

void PortForward::on_stream_data(uint32_t id, std::string_view bytes) {
  const auto found = by_stream_.find(id);
  if (found == by_stream_.end() || found->second->data != id) return;
  const ForwardedPtr one = found->second;
  if (one->to) {
    one->to->write(bytes);
  } else if (!one->from) {
    one->early += bytes;
  }
}

void PortForward::on_stream_end(uint32_t id) {
  const auto found = by_stream_.find(id);
  if (found == by_stream_.end() || found->second->data != id) return;
  const ForwardedPtr one = found->second;
  one->input_done = true;
  if (one->to) one->to->finish();
  end_if_done(one);
  if (is_here(one)) wait_for_rest(one);
}

/// Clients close their side and wait for the other. A server that does not care, and has nothing
/// more to say, would hold the connection for ever.
void PortForward::wait_for_rest(const ForwardedPtr& one) {
  one->idle = context_.loop.after(context_.half_closed_ms, [this, weak = std::weak_ptr(one)] {
    const auto kept = weak.lock();
    if (!kept || !is_here(kept)) return;
    // What is on its way still is waited for, however slow.
    if ((kept->from && kept->from->is_paused()) || (kept->to && !kept->to->is_empty()))
      return wait_for_rest(kept);
    session_.finish(*kept->data);
    kept->output_done = true;
    end_if_done(kept);
  });
}

void PortForward::on_stream_reset(uint32_t id) {
  const auto found = by_stream_.find(id);
  if (found == by_stream_.end() || found->second->data != id) return;
  const ForwardedPtr one = found->second;
  if (one->error) session_.finish(*one->error);
  forget(one);
}

void PortForward::dial_for(const ForwardedPtr& one) {
  one->late.reset();
  context_.workers.post([weak = weak_from_this(), &context = context_, one, id = call_.sandbox_id] {
    const auto open = [&]() -> Result<DialSockets> {
      const auto sandbox = FLUYT_TRY(context.engine.get_sandbox(id));
      if (sandbox->state != engine::SandboxState::kReady) {
        return Error(Code::kFailedPrecondition, "the sandbox is not ready any more");
      }
      return open_dial_sockets(sandbox->namespaces.network);
    };
    auto sockets = std::make_shared<Result<DialSockets>>(open());
    context.loop.post([weak, one, sockets] {
      if (const auto self = weak.lock()) self->connect_from(one, std::move(*sockets));
    });
  });
}

void PortForward::connect_from(const ForwardedPtr& one, Result<DialSockets> sockets) {
  if (!is_here(one) || by_request_[one->request] != one) return;  // the client did not wait
  if (!sockets.ok()) return fail(one, sockets.error().message());
  one->dial = Dial::begin(context_.loop, std::move(*sockets), one->port,
                          [this, weak = std::weak_ptr(one)](Result<sys::Fd> socket) {
                            if (const auto kept = weak.lock()) dialled(kept, std::move(socket));
                          });
}

void PortForward::dialled(const ForwardedPtr& one, Result<sys::Fd> socket) {
  one->dial.reset();
  auto connected =
      socket.ok() ? connect(one, std::move(*socket)) : Result<>(std::move(socket).error());
  if (!connected.ok()) fail(one, connected.error().message());
  hold_or_resume();
}

Result<> PortForward::connect(const ForwardedPtr& one, sys::Fd socket) {
  one->to = FLUYT_TRY(Sink::create(context_.loop, FLUYT_TRY(sys::duplicate(socket)),
                                   Sink::End::kShutdown, [this] { hold_or_resume(); }));
  one->from = FLUYT_TRY(Source::create(context_.loop, std::move(socket),
                                       [this, weak = std::weak_ptr(one)](std::string_view bytes) {
                                         if (const auto kept = weak.lock()) output(kept, bytes);
                                       }));
  if (wire_->is_full()) one->from->pause();
  one->to->write(std::exchange(one->early, {}));
  if (one->input_done) one->to->finish();
  return {};
}

void PortForward::output(const ForwardedPtr& one, std::string_view bytes) {
  if (bytes.empty()) {
    one->output_done = true;
    session_.finish(*one->data);
    end_if_done(one);
    return;
  }
  session_.write(*one->data, bytes);
  if (one->idle) wait_for_rest(one);
  if (!wire_->is_full()) return;
  for (const auto& [request, other] : by_request_) {
    if (other->from) other->from->pause();
  }
}

void PortForward::end_if_done(const ForwardedPtr& one) {
  if (!one->input_done || !one->output_done) return;
  if (one->error) session_.finish(*one->error);
  forget(one);
}

void PortForward::fail(const ForwardedPtr& one, const std::string& why) {
  const std::string text =
      cat("error forwarding port ", one->port, " to pod ", call_.sandbox_id, ": ", why);
  context_.logger.debug(cat("streaming: ", text));
  if (one->error) {
    session_.write(*one->error, text);
    session_.finish(*one->error);
  }
  if (one->data) session_.reset(*one->data, spdy::ResetStatus::kInternalError);
  forget(one);
}

void PortForward::forget(const ForwardedPtr& one) {
  if (one->data) by_stream_.erase(*one->data);
  if (one->error) by_stream_.erase(*one->error);
  const ForwardedPtr kept = one;
  by_request_.erase(kept->request);
  // What would call us does not any more, though we may go before the pair does.
  kept->late.reset();
  kept->dial.reset();
  kept->idle.reset();
  // A source may be calling us: it goes with the last who holds the pair.
  context_.loop.post([kept] {});
}

/// Nothing is read from the client while one of its connections takes nothing: SPDY's clients keep
/// no windows, so the whole session waits, as it does elsewhere.
void PortForward::hold_or_resume() {
  if (gone_) return;
  bool full = false;
  for (const auto& [request, one] : by_request_) full = full || one->is_full();
  if (full == held_) return;
  held_ = full;
  if (full) {
    wire_->pause_reading();
  } else {
    wire_->resume_reading();
  }
}

}  // namespace

std::shared_ptr<Wire::Handler> make_port_forward(Context& context, std::shared_ptr<Wire> wire,
                                                 PortForwardCall call) {
  return std::make_shared<PortForward>(context, std::move(wire), std::move(call));
}

}  // namespace fluyt::streaming
