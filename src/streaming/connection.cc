#include "streaming/connection.h"

#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/socket.h>

#include <array>
#include <boost/asio/buffer.hpp>
#include <boost/asio/io_context.hpp>
#include <boost/asio/ip/tcp.hpp>
#include <boost/asio/ssl/context.hpp>
#include <boost/asio/ssl/stream.hpp>
#include <boost/asio/write.hpp>
#include <boost/beast/core/flat_buffer.hpp>
#include <boost/beast/core/stream_traits.hpp>
#include <boost/beast/http.hpp>
#include <list>
#include <string>
#include <type_traits>
#include <utility>
#include <variant>

#include "base/strings.h"
#include "streaming/stream_wire.h"
#include "streaming/websocket.h"

namespace fluyt::streaming {
namespace {

namespace asio = boost::asio;
namespace beast = boost::beast;
namespace http = boost::beast::http;
using boost::system::error_code;
using tcp = asio::ip::tcp;

constexpr uint32_t kMaxHead = 16U << 10U;

/// Bytes over TCP or TLS, after the change to SPDY.
template <class Stream>
class ByteWire final : public QueueWire {
 public:
  ByteWire(Loop& loop, WireLimits limits, Stream stream, std::shared_ptr<void> keep)
      : QueueWire(loop, limits), keep_(std::move(keep)), stream_(std::move(stream)) {}

 private:
  std::shared_ptr<ByteWire> self() {
    return std::static_pointer_cast<ByteWire>(this->shared_from_this());
  }
  void read() override {
    stream_.async_read_some(asio::buffer(buffer_), [self = self()](error_code failed, size_t size) {
      if (failed) return self->lost();
      self->read_done({self->buffer_.data(), size});
    });
  }
  void write(const std::string& bytes) override {
    asio::async_write(stream_, asio::buffer(bytes),
                      [self = self()](error_code failed, size_t /*size*/) {
                        if (failed) return self->lost();
                        self->write_done();
                      });
  }
  void say_goodbye() override {
    // SPDY has said its own goodbye: TLS needs none to show that nothing was cut off.
    error_code ignored;
    beast::get_lowest_layer(stream_).shutdown(tcp::socket::shutdown_send, ignored);
  }
  void shut() override {
    error_code ignored;
    beast::get_lowest_layer(stream_).close(ignored);
  }
  int socket() override { return beast::get_lowest_layer(stream_).native_handle(); }

  std::shared_ptr<void> keep_;
  Stream stream_;
  std::array<char, 32UL << 10U> buffer_{};
};

/// A client whose host has gone, or that closed while we read nothing from it, is noticed in
/// minutes and not in hours.
void keep_alive(int socket) {
  const int on = 1;
  const int idle_s = 30;
  const int interval_s = 10;
  const int count = 6;
  (void)::setsockopt(socket, SOL_SOCKET, SO_KEEPALIVE, &on, sizeof on);
  (void)::setsockopt(socket, IPPROTO_TCP, TCP_KEEPIDLE, &idle_s, sizeof idle_s);
  (void)::setsockopt(socket, IPPROTO_TCP, TCP_KEEPINTVL, &interval_s, sizeof interval_s);
  (void)::setsockopt(socket, IPPROTO_TCP, TCP_KEEPCNT, &count, sizeof count);
}

class Place;

struct Shared {
  Loop& loop;
  DoorOptions options;
  Admission& admission;
  std::list<std::weak_ptr<Wire>> wires;
  std::list<Place*> guests = {};  // the oldest first
  size_t sessions = 0;
  bool closed = false;
};

/// Counts a session as long as it lives, whichever object holds it.
class Ticket {
 public:
  explicit Ticket(std::shared_ptr<Shared> shared) : shared_(std::move(shared)) {
    ++shared_->sessions;
  }
  Ticket(const Ticket&) = delete;
  Ticket& operator=(const Ticket&) = delete;
  ~Ticket() { --shared_->sessions; }

 private:
  std::shared_ptr<Shared> shared_;
};

/// That of a guest among all of them, until it leaves or is ended for another.
class Place {
 public:
  explicit Place(std::shared_ptr<Shared> shared)
      : shared_(std::move(shared)), at_(shared_->guests.insert(shared_->guests.end(), this)) {}
  Place(const Place&) = delete;
  Place& operator=(const Place&) = delete;
  virtual ~Place() { leave(); }
  void leave() {
    if (std::exchange(left_, true)) return;
    shared_->guests.erase(at_);
  }
  virtual void end() = 0;

 protected:
  Shared& shared() { return *shared_; }
  std::shared_ptr<Ticket> become_session() {
    leave();
    return std::make_shared<Ticket>(shared_);
  }

 private:
  std::shared_ptr<Shared> shared_;
  std::list<Place*>::iterator at_;
  bool left_ = false;
};

/// A client before its upgrade.
template <class Stream>
class Guest final : public Place, public std::enable_shared_from_this<Guest<Stream>> {
 public:
  Guest(std::shared_ptr<Shared> shared, Stream stream)
      : Place(std::move(shared)), stream_(std::move(stream)) {
    parser_.header_limit(kMaxHead);
    parser_.body_limit(0);
  }

  void begin() {
    late_ = shared().loop.after(shared().options.request_ms, [this] { end(); });
    if constexpr (std::is_same_v<Stream, TlsStream>) {
      stream_.async_handshake(asio::ssl::stream_base::server,
                              [self = this->shared_from_this()](error_code failed) {
                                if (!failed) self->read_head();
                              });
    } else {
      read_head();
    }
  }

 private:
  void read_head() {
    http::async_read_header(stream_, buffer_, parser_,
                            [self = this->shared_from_this()](error_code failed, size_t /*size*/) {
                              self->head_read(failed);
                            });
  }

  void head_read(error_code failed) {
    if (failed == http::error::header_limit || failed == http::error::buffer_overflow) {
      refuse(
          {.status = 431, .text = cat("a head of more than ", kMaxHead, " bytes"), .headers = {}});
    } else if (failed &&
               failed.category() ==
                   http::make_error_code(http::error::bad_line_ending).category() &&
               failed != http::error::end_of_stream && failed != http::error::partial_message) {
      refuse({.status = 400, .text = cat("no HTTP request: ", failed.message()), .headers = {}});
    } else if (!failed) {
      answer();
    }
  }

  RequestHead head() const {
    const auto& request = parser_.get();
    RequestHead head{.method = std::string(request.method_string()),
                     .target = std::string(request.target()),
                     .headers = {}};
    for (const auto& field : request) {
      head.headers.emplace_back(to_lower(std::string(field.name_string())),
                                std::string(field.value()));
    }
    return head;
  }

  void answer() {
    // Nothing may follow the request before it is answered.
    if (buffer_.size() != 0 || parser_.chunked() ||
        !(parser_.is_done() || !parser_.content_length() || *parser_.content_length() == 0)) {
      return refuse({.status = 400, .text = "expected a request without a body", .headers = {}});
    }
    auto decided = decide(head());
    if (auto* refusal = std::get_if<Refusal>(&decided)) return refuse(std::move(*refusal));
    auto& upgrade = std::get<Upgrade>(decided);
    if (shared().sessions >= shared().options.max_connections) {
      // Its token stays good.
      return refuse({.status = 503,
                     .text = cat("there are ", shared().sessions, " sessions, as many as may be"),
                     .headers = {}});
    }
    Admission::Open open = shared().admission.admit(upgrade);
    if (!open) return refuse(unknown_token());
    keep_ = become_session();
    if (std::holds_alternative<SpdyUpgrade>(upgrade.how)) {
      change_to_spdy(upgrade, std::move(open));
    } else {
      change_to_websocket(upgrade, std::move(open));
    }
  }

  void change_to_spdy(const Upgrade& upgrade, Admission::Open open) {
    response_ = "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: SPDY/3.1\r\n";
    if (!upgrade.protocol.empty()) {
      response_ += cat("X-Stream-Protocol-Version: ", upgrade.protocol, "\r\n");
    }
    response_ += "\r\n";
    asio::async_write(stream_, asio::buffer(response_),
                      [self = this->shared_from_this(), open](error_code failed, size_t /*size*/) {
                        if (failed) return;
                        self->hand_over(std::make_shared<ByteWire<Stream>>(
                                            self->shared().loop, self->shared().options.limits,
                                            std::move(self->stream_), std::move(self->keep_)),
                                        open);
                      });
  }

  void change_to_websocket(const Upgrade& upgrade, Admission::Open open) {
    accept_websocket(shared().loop, shared().options.limits, std::move(stream_), parser_.get(),
                     upgrade, std::move(keep_),
                     [self = this->shared_from_this(), open](std::shared_ptr<Wire> wire) {
                       if (wire) self->hand_over(std::move(wire), open);
                     });
  }

  void hand_over(std::shared_ptr<Wire> wire, const Admission::Open& open) {
    late_.reset();
    if (shared().closed) return;
    shared().wires.remove_if([](const std::weak_ptr<Wire>& old) { return old.expired(); });
    shared().wires.emplace_back(wire);
    auto handler = open(wire);
    wire->start(std::move(handler));
  }

  void refuse(Refusal refusal) {
    auto response = std::make_shared<http::response<http::string_body>>();
    response->version(11);
    response->result(refusal.status);
    response->set(http::field::content_type, "text/plain; charset=utf-8");
    response->set(http::field::connection, "close");
    for (const auto& [name, value] : refusal.headers) response->insert(name, value);
    response->body() = refusal.text + "\n";
    response->prepare_payload();
    http::async_write(
        stream_, *response,
        [self = this->shared_from_this(), response](error_code /*failed*/, size_t /*size*/) {
          error_code ignored;
          beast::get_lowest_layer(self->stream_).shutdown(tcp::socket::shutdown_send, ignored);
          self->linger();
        });
  }

  /// Reads what still comes until the client closes or its time is over, so that our answer is not
  /// lost to a reset.
  void linger() {
    beast::get_lowest_layer(stream_).async_read_some(
        asio::buffer(rest_), [self = this->shared_from_this()](error_code failed, size_t /*size*/) {
          if (!failed) self->linger();
        });
  }

  void end() override {
    error_code ignored;
    beast::get_lowest_layer(stream_).close(ignored);
  }

  std::shared_ptr<void> keep_;
  Stream stream_;
  beast::flat_buffer buffer_{kMaxHead};
  http::request_parser<http::empty_body> parser_;
  std::string response_;
  std::array<char, 4096> rest_{};
  std::unique_ptr<Loop::Timer> late_;
};

class AsioDoor final : public Door {
 public:
  AsioDoor(Loop& loop, const DoorOptions& options, Tls* tls, Admission& admission, Logger& logger)
      : shared_(std::make_shared<Shared>(Shared{loop, options, admission, {}})),
        tls_(tls),
        logger_(logger),
        acceptor_(loop.context()) {}
  AsioDoor(const AsioDoor&) = delete;
  AsioDoor& operator=(const AsioDoor&) = delete;
  ~AsioDoor() override = default;

  Result<> listen() {
    const DoorOptions& options = shared_->options;
    error_code failed;
    const auto address = asio::ip::make_address(options.address, failed);
    if (failed) {
      return Error(Code::kInvalidArgument, cat("cri.streaming.address: ", quote(options.address),
                                               ": expected an IP address"));
    }
    const tcp::endpoint endpoint(address, options.port);
    acceptor_.open(endpoint.protocol(), failed);
    if (!failed) acceptor_.set_option(tcp::acceptor::reuse_address(true), failed);
    if (!failed) acceptor_.bind(endpoint, failed);
    if (!failed) acceptor_.listen(128, failed);
    if (failed) {
      return Error(Code::kUnavailable, cat("cri.streaming: listen on ", options.address, ":",
                                           options.port, ": ", failed.message()));
    }
    port_ = acceptor_.local_endpoint(failed).port();
    return {};
  }

  uint16_t port() const override { return port_; }

  void start() override { accept(); }

  void take(sys::Fd connection) override {
    tcp::socket socket(shared_->loop.context());
    error_code failed;
    // The family is for the socket's addresses, which nobody asks for.
    socket.assign(tcp::v4(), connection.raw(), failed);
    if (failed) return logger_.warn(cat("streaming: take: ", failed.message()));
    (void)connection.release();
    welcome(std::move(socket));
  }

  void change(const DoorOptions& options, Tls* tls) override {
    shared_->options = options;
    tls_ = tls;
  }

  void retire() override {
    error_code ignored;
    acceptor_.close(ignored);
    pause_.reset();
  }

  size_t connections() const override { return shared_->sessions + shared_->guests.size(); }

  void close() override {
    shared_->closed = true;
    retire();
    const auto wires = std::exchange(shared_->wires, {});
    for (const auto& weak : wires) {
      if (const auto wire = weak.lock()) wire->abort();
    }
  }

 private:
  void accept() {
    acceptor_.async_accept([this](error_code failed, tcp::socket socket) {
      if (!acceptor_.is_open()) return;
      if (failed) {
        // Out of descriptors, most likely: the listener stays ready, so do not spin on it.
        logger_.warn(cat("streaming: accept: ", failed.message()));
        pause_ = shared_->loop.after(50, [this] { accept(); });
        return;
      }
      welcome(std::move(socket));
      accept();
    });
  }

  void welcome(tcp::socket socket) {
    while (shared_->guests.size() >= shared_->options.max_guests) {
      Place& oldest = *shared_->guests.front();
      oldest.leave();
      oldest.end();
    }
    error_code ignored;
    socket.set_option(tcp::no_delay(true), ignored);
    keep_alive(socket.native_handle());
    if (tls_ == nullptr)
      return std::make_shared<Guest<PlainStream>>(shared_, std::move(socket))->begin();
    const auto context = tls_->context();
    TlsStream stream(std::move(socket), *context);
    std::make_shared<Guest<TlsStream>>(shared_, std::move(stream))->begin();
  }

  std::shared_ptr<Shared> shared_;
  Tls* tls_;
  Logger& logger_;
  tcp::acceptor acceptor_;
  std::unique_ptr<Loop::Timer> pause_;
  uint16_t port_ = 0;
};

}  // namespace

Result<std::unique_ptr<Door>> Door::open(Loop& loop, const DoorOptions& options, Tls* tls,
                                         Admission& admission, Logger& logger) {
  auto door = std::make_unique<AsioDoor>(loop, options, tls, admission, logger);
  FLUYT_TRY(door->listen());
  return std::unique_ptr<Door>(std::move(door));
}

}  // namespace fluyt::streaming
