#pragma once

#include <functional>
#include <memory>
#include <string_view>

#include "streaming/status.h"
#include "streaming/urls.h"
#include "streaming/wire.h"

namespace fluyt::streaming {

/// The numbers are those of the WebSocket protocols.
enum class Channel : uint8_t { kIn = 0, kOut = 1, kErr = 2, kError = 3, kResize = 4 };

/// The client of an exec or attach, whichever protocol it speaks: where output goes.
class Client {
 public:
  virtual ~Client() = default;
  virtual void send(Channel channel, std::string_view bytes) = 0;
  /// Too much waits to be sent: whoever produces should wait for on_room().
  virtual bool is_full() const = 0;
  /// While input is held back nothing is read from the client at all.
  virtual void hold_input() = 0;
  virtual void resume_input() = 0;
  /// All output, then the outcome, then the end of the connection.
  virtual void end(const Outcome& outcome) = 0;
};

/// What is done for a client. Destroyed when it has gone.
class Relay {
 public:
  virtual ~Relay() = default;
  /// Every stream that was announced is there.
  virtual void on_ready() = 0;
  /// Where input was announced alone: some bytes each time, and after the end, told once, none.
  virtual void on_input(std::string_view bytes) = 0;
  virtual void on_input_end() = 0;
  virtual void on_resize(TerminalSize size) = 0;
  virtual void on_room() = 0;
};
using MakeRelay = std::function<std::shared_ptr<Relay>(Client&)>;

/// The client's side over SPDY: a stream a channel, made by the client within `streams_ms`.
std::shared_ptr<Wire::Handler> make_spdy_client(class Loop& loop, std::shared_ptr<Wire> wire,
                                                Version version, Streams streams,
                                                int64_t streams_ms, const MakeRelay& make_relay);
/// The client's side over a WebSocket: a message's first byte is its channel.
std::shared_ptr<Wire::Handler> make_websocket_client(std::shared_ptr<Wire> wire,
                                                     WebSocketUpgrade how, Streams streams,
                                                     const MakeRelay& make_relay);

}  // namespace fluyt::streaming
