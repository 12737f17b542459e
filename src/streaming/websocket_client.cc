#include <utility>

#include "base/base64.h"
#include "streaming/client.h"

namespace fluyt::streaming {
namespace {

constexpr auto kCloseSignal = '\xff';  // of v5: the channel whose input ends follows

class WebSocketClient final : public Wire::Handler, public Client {
 public:
  WebSocketClient(std::shared_ptr<Wire> wire, WebSocketUpgrade how, Streams streams)
      : wire_(std::move(wire)), how_(how), streams_(streams), input_open_(streams.in) {}

  void set_relay(std::shared_ptr<Relay> relay) { relay_ = std::move(relay); }

  // Of the wire.
  void on_start() override {
    // An empty message tells the client that the connection stands.
    send_message(streams_.out ? Channel::kOut : streams_.err ? Channel::kErr : Channel::kError, {});
    const auto relay = relay_;
    if (relay) relay->on_ready();
  }
  void on_bytes(std::string_view message) override {
    if (message.empty()) return;
    const char channel = message.front();
    message.remove_prefix(1);
    if (!how_.base64) {
      take(channel, message);
      return;
    }
    const auto bytes = base64_decode(message);
    if (!bytes) {
      wire_->close();
      return;
    }
    take(static_cast<char>(channel - '0'), *bytes);
  }
  void on_room() override { relay_->on_room(); }
  void on_gone() override { relay_.reset(); }

  // Of the relay.
  void send(Channel channel, std::string_view bytes) override {
    const bool wanted = channel == Channel::kOut   ? streams_.out
                        : channel == Channel::kErr ? streams_.err
                                                   : true;
    if (wanted && !bytes.empty()) send_message(channel, bytes);
  }
  bool is_full() const override { return wire_->is_full(); }
  void hold_input() override { wire_->pause_reading(); }
  void resume_input() override { wire_->resume_reading(); }
  void end(const Outcome& outcome) override {
    send(Channel::kError, outcome_text(outcome, how_.version));
    wire_->close();
  }

 private:
  void send_message(Channel channel, std::string_view bytes) {
    const auto number = static_cast<char>(channel);
    std::string message(1, how_.base64 ? static_cast<char>('0' + number) : number);
    if (how_.base64) {
      message += base64_encode(bytes);
    } else {
      message += bytes;
    }
    wire_->send(std::move(message));
  }

  void take(char channel, std::string_view bytes) {
    if (channel == static_cast<char>(Channel::kIn)) {
      if (input_open_ && !bytes.empty()) relay_->on_input(bytes);
    } else if (channel == static_cast<char>(Channel::kResize)) {
      sizes_.feed(bytes, [this](TerminalSize size) { relay_->on_resize(size); });
    } else if (channel == kCloseSignal && how_.version == Version::kV5) {
      if (bytes == std::string_view("\0", 1) && std::exchange(input_open_, false))
        relay_->on_input_end();
    }
    // Output channels are ours: what comes on them is dropped, as the field does.
  }

  std::shared_ptr<Wire> wire_;
  const WebSocketUpgrade how_;
  const Streams streams_;
  bool input_open_;
  SizeReader sizes_;
  std::shared_ptr<Relay> relay_;
};

}  // namespace

std::shared_ptr<Wire::Handler> make_websocket_client(std::shared_ptr<Wire> wire,
                                                     WebSocketUpgrade how, Streams streams,
                                                     const MakeRelay& make_relay) {
  auto client = std::make_shared<WebSocketClient>(std::move(wire), how, streams);
  client->set_relay(make_relay(*client));
  return client;
}

}  // namespace fluyt::streaming
