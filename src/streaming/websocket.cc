#include "streaming/websocket.h"

#include <array>
#include <boost/asio/buffer.hpp>
#include <boost/asio/post.hpp>
#include <boost/beast/ssl/ssl_stream.hpp>
#include <boost/beast/websocket/ssl.hpp>
#include <boost/beast/websocket/stream.hpp>
#include <chrono>
#include <optional>
#include <string>
#include <utility>
#include <variant>

#include "streaming/stream_wire.h"

namespace fluyt::streaming {
namespace {

namespace asio = boost::asio;
namespace beast = boost::beast;
namespace websocket = boost::beast::websocket;
using boost::system::error_code;

// Base64 can only be read as a whole.
constexpr size_t kMaxTextMessage = 1UL << 20U;

/// How messages are handed on.
enum class Messages {
  kPieces,    // a tunnel: bytes as they come
  kChannels,  // pieces too, each behind its message's first byte, so that nothing large is kept
  kWhole,
};

template <class Stream>
class WebSocketWire final : public QueueWire {
 public:
  WebSocketWire(Loop& loop, WireLimits limits, Stream stream, const WebSocketUpgrade& how,
                std::shared_ptr<void> keep)
      : QueueWire(loop, limits),
        keep_(std::move(keep)),
        messages_(how.tunnel   ? Messages::kPieces
                  : how.base64 ? Messages::kWhole
                               : Messages::kChannels),
        socket_(std::move(stream)) {
    // For our answer, and for the end of a client that broke the protocol and does not hang up.
    // Idle ones are ours to watch.
    socket_->set_option(websocket::stream_base::timeout{
        .handshake_timeout = std::chrono::milliseconds(limits.goodbye_ms),
        .idle_timeout = websocket::stream_base::none(),
        .keep_alive_pings = false});
    socket_->auto_fragment(false);
    socket_->binary(!how.base64);
    socket_->read_message_max(how.base64 ? kMaxTextMessage : 0);
  }

  void accept(const HttpRequest& request, const std::string& protocol, SocketAccepted accepted) {
    socket_->set_option(
        websocket::stream_base::decorator([protocol](websocket::response_type& answer) {
          if (!protocol.empty()) answer.set(beast::http::field::sec_websocket_protocol, protocol);
        }));
    socket_->async_accept(request, [self = self(), accepted](error_code failed) {
      accepted(failed ? nullptr : self);
    });
  }

 private:
  std::shared_ptr<WebSocketWire> self() {
    return std::static_pointer_cast<WebSocketWire>(this->shared_from_this());
  }

  void read() override {
    socket_->async_read_some(asio::buffer(buffer_),
                             [self = self()](error_code failed, size_t size) {
                               if (failed) return self->lost();
                               self->take({self->buffer_.data(), size});
                             });
  }

  void take(std::string_view piece) {
    if (!socket_) return;
    const bool done = socket_->is_message_done();
    const bool first = std::exchange(begins_, done);
    switch (messages_) {
      case Messages::kPieces:
        read_done(piece);
        return;
      case Messages::kWhole:
        if (first) message_.clear();
        message_ += piece;
        if (!done) return read();
        break;
      case Messages::kChannels:
        if (first) message_.clear();
        if (message_.size() > 1) message_.resize(1);
        message_ += piece;
        break;
    }
    const std::string message = message_;
    read_done(message);
  }

  void write(const std::string& bytes) override {
    socket_->async_write(asio::buffer(bytes), [self = self()](error_code failed, size_t /*size*/) {
      if (failed) return self->lost();
      self->write_done();
    });
  }

  void say_goodbye() override {
    socket_->async_close(websocket::close_code::normal,
                         [self = self()](error_code /*failed*/) { self->lost(); });
  }

  void shut() override {
    error_code ignored;
    auto& connection = beast::get_lowest_layer(*socket_);
    connection.close(ignored);
    // Inside Beast (Boost 1.74) a close that we began and a read that found a broken
    // frame meanwhile wait for each other for ever, and hold this object. The end of the stream
    // lets go of both; it must not come from within an operation of its own.
    asio::post(connection.get_executor(), [self = self()] { self->socket_.reset(); });
  }

  int socket() override { return beast::get_lowest_layer(*socket_).native_handle(); }

  std::shared_ptr<void> keep_;
  const Messages messages_;
  std::optional<websocket::stream<Stream>> socket_;  // until shut()
  std::array<char, 32UL << 10U> buffer_{};
  std::string message_;
  bool begins_ = true;  // the next piece is the first of its message
};

template <class Stream>
void accept(Loop& loop, WireLimits limits, Stream stream, const HttpRequest& request,
            const Upgrade& upgrade, std::shared_ptr<void> keep, SocketAccepted accepted) {
  const auto& how = std::get<WebSocketUpgrade>(upgrade.how);
  const auto wire = std::make_shared<WebSocketWire<Stream>>(loop, limits, std::move(stream), how,
                                                            std::move(keep));
  wire->accept(request, upgrade.protocol, std::move(accepted));
}

}  // namespace

void accept_websocket(Loop& loop, WireLimits limits, PlainStream stream, const HttpRequest& request,
                      const Upgrade& upgrade, std::shared_ptr<void> keep, SocketAccepted accepted) {
  accept(loop, limits, std::move(stream), request, upgrade, std::move(keep), std::move(accepted));
}

void accept_websocket(Loop& loop, WireLimits limits, TlsStream stream, const HttpRequest& request,
                      const Upgrade& upgrade, std::shared_ptr<void> keep, SocketAccepted accepted) {
  accept(loop, limits, std::move(stream), request, upgrade, std::move(keep), std::move(accepted));
}

}  // namespace fluyt::streaming
