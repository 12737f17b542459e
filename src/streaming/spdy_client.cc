#include <array>
#include <optional>
#include <utility>

#include "base/strings.h"
#include "streaming/client.h"
#include "streaming/loop.h"
#include "streaming/spdy/session.h"

namespace fluyt::streaming {
namespace {

// One for each channel; more are refused.
constexpr size_t kMaxStreams = 8;
constexpr std::array<std::string_view, 5> kTypes = {"stdin", "stdout", "stderr", "error", "resize"};

std::optional<Channel> channel_of(std::string_view type) {
  for (size_t i = 0; i < kTypes.size(); ++i) {
    if (kTypes.at(i) == type) return static_cast<Channel>(i);
  }
  return std::nullopt;
}

class SpdyClient final : public Wire::Handler, public Client, private spdy::SessionHandler {
 public:
  SpdyClient(Loop& loop, std::shared_ptr<Wire> wire, Version version, Streams streams,
             int64_t streams_ms)
      : wire_(std::move(wire)),
        version_(version),
        session_(*this, kMaxStreams, [this](std::string bytes) { wire_->send(std::move(bytes)); }) {
    wanted_.at(index(Channel::kIn)) = streams.in;
    wanted_.at(index(Channel::kOut)) = streams.out;
    wanted_.at(index(Channel::kErr)) = streams.err;
    wanted_.at(index(Channel::kError)) = true;
    wanted_.at(index(Channel::kResize)) = streams.terminal && version >= Version::kV3;
    late_ = loop.after(streams_ms, [this] { give_up(); });
  }

  void set_relay(std::shared_ptr<Relay> relay) { relay_ = std::move(relay); }

  // Of the wire.
  void on_start() override {}
  void on_bytes(std::string_view bytes) override {
    if (!session_.feed(bytes).ok()) wire_->close();
  }
  void on_room() override { relay_->on_room(); }
  void on_gone() override {
    late_.reset();
    relay_.reset();
  }

  // Of the relay.
  void send(Channel channel, std::string_view bytes) override {
    if (const auto id = ids_.at(index(channel))) session_.write(*id, bytes);
  }
  bool is_full() const override { return wire_->is_full(); }
  void hold_input() override { wire_->pause_reading(); }
  void resume_input() override { wire_->resume_reading(); }
  void end(const Outcome& outcome) override {
    finish(Channel::kOut);
    finish(Channel::kErr);
    send(Channel::kError, outcome_text(outcome, version_));
    finish(Channel::kError);
    finish(Channel::kIn);
    finish(Channel::kResize);
    session_.go_away();
    wire_->close();
  }

 private:
  static size_t index(Channel channel) { return static_cast<size_t>(channel); }

  void finish(Channel channel) {
    if (const auto id = ids_.at(index(channel))) session_.finish(*id);
  }

  bool on_stream(uint32_t id, const spdy::Headers& headers) override {
    const auto channel = channel_of(spdy::find_header(headers, "streamtype").value_or(""));
    if (!channel || !wanted_.at(index(*channel)) || ids_.at(index(*channel))) return false;
    ids_.at(index(*channel)) = id;
    if (!ready_ && is_complete()) {
      ready_ = true;
      late_.reset();
      relay_->on_ready();
    }
    return true;
  }
  void on_stream_data(uint32_t id, std::string_view bytes) override {
    if (id == ids_.at(index(Channel::kIn))) {
      relay_->on_input(bytes);
    } else if (id == ids_.at(index(Channel::kResize))) {
      sizes_.feed(bytes, [this](TerminalSize size) { relay_->on_resize(size); });
    }
  }
  void on_stream_end(uint32_t id) override {
    if (id == ids_.at(index(Channel::kIn)) && !std::exchange(input_ended_, true))
      relay_->on_input_end();
  }
  void on_stream_reset(uint32_t id) override { on_stream_end(id); }

  bool is_complete() const {
    for (size_t i = 0; i < wanted_.size(); ++i) {
      if (wanted_.at(i) && !ids_.at(i)) return false;
    }
    return true;
  }

  void give_up() { end(failed("the client did not make its streams in time")); }

  std::shared_ptr<Wire> wire_;
  const Version version_;
  spdy::Session session_;
  std::array<bool, 5> wanted_{};
  std::array<std::optional<uint32_t>, 5> ids_;
  bool ready_ = false;
  bool input_ended_ = false;
  SizeReader sizes_;
  std::unique_ptr<Loop::Timer> late_;
  std::shared_ptr<Relay> relay_;
};

}  // namespace

std::shared_ptr<Wire::Handler> make_spdy_client(Loop& loop, std::shared_ptr<Wire> wire,
                                                Version version, Streams streams,
                                                int64_t streams_ms, const MakeRelay& make_relay) {
  auto client = std::make_shared<SpdyClient>(loop, std::move(wire), version, streams, streams_ms);
  client->set_relay(make_relay(*client));
  return client;
}

}  // namespace fluyt::streaming
