#include "cmd/fluytd/metrics/server.h"

#include <arpa/inet.h>
#include <sys/socket.h>
#include <unistd.h>

#include <boost/asio/io_context.hpp>
#include <boost/asio/ip/tcp.hpp>
#include <boost/asio/local/stream_protocol.hpp>
#include <boost/asio/post.hpp>
#include <boost/asio/steady_timer.hpp>
#include <boost/beast/core/basic_stream.hpp>
#include <boost/beast/core/flat_buffer.hpp>
#include <boost/beast/http.hpp>
#include <thread>
#include <utility>

#include "base/strings.h"
#include "sys/file.h"
#include "sys/socket.h"

namespace fluyt::daemon {
namespace {

namespace asio = boost::asio;
namespace beast = boost::beast;
namespace http = boost::beast::http;
using boost::system::error_code;

constexpr uint32_t kMaxHead = 8U << 10U;
constexpr size_t kMaxConnections = 16;
constexpr int kBacklog = 128;
constexpr auto kMaxTime = std::chrono::seconds(10);
constexpr auto kPause = std::chrono::milliseconds(100);
constexpr mode_t kSocketMode = 0660;

struct Shared {
  std::function<std::string()> collect;
  size_t connections = 0;
};

http::response<http::string_body> answer_to(const http::request<http::empty_body>& request,
                                            const std::function<std::string()>& collect) {
  http::response<http::string_body> response;
  response.version(11);
  response.set(http::field::content_type, "text/plain; charset=utf-8");
  const std::string_view target(request.target().data(), request.target().size());
  const bool is_get = request.method() == http::verb::get;
  if (!is_get && request.method() != http::verb::head) {
    response.result(http::status::method_not_allowed);
    response.set(http::field::allow, "GET, HEAD");
    response.body() = "expected GET\n";
  } else if (target.substr(0, target.find('?')) != "/metrics") {
    response.result(http::status::not_found);
    response.body() = "expected /metrics\n";
  } else {
    response.set(http::field::content_type, "text/plain; version=0.0.4; charset=utf-8");
    response.body() = collect();
  }
  response.set(http::field::connection, "close");
  response.prepare_payload();
  if (!is_get && request.method() == http::verb::head) response.body().clear();
  return response;
}

/// One connection: a request, its answer, the end.
template <class Protocol>
class Guest : public std::enable_shared_from_this<Guest<Protocol>> {
 public:
  Guest(std::shared_ptr<Shared> shared, typename Protocol::socket socket)
      : shared_(std::move(shared)), stream_(std::move(socket)) {
    ++shared_->connections;
    parser_.header_limit(kMaxHead);
    parser_.body_limit(0);
  }
  Guest(const Guest&) = delete;
  Guest& operator=(const Guest&) = delete;
  ~Guest() { --shared_->connections; }

  void begin() {
    stream_.expires_after(kMaxTime);  // for all of it
    http::async_read(stream_, buffer_, parser_,
                     [self = this->shared_from_this()](error_code failed, size_t /*size*/) {
                       // What is no request, too long or too slow gets no answer.
                       if (!failed) self->answer();
                     });
  }

 private:
  void answer() {
    response_ = answer_to(parser_.get(), shared_->collect);
    http::async_write(stream_, response_,
                      [self = this->shared_from_this()](error_code /*failed*/, size_t /*size*/) {
                        error_code ignored;
                        self->stream_.socket().shutdown(asio::socket_base::shutdown_send, ignored);
                      });
  }

  std::shared_ptr<Shared> shared_;
  beast::basic_stream<Protocol> stream_;
  beast::flat_buffer buffer_{kMaxHead};
  http::request_parser<http::empty_body> parser_;
  http::response<http::string_body> response_;
};

template <class Protocol>
class Server final : public MetricsServer {
 public:
  Server(std::function<std::string()> collect, Logger& logger)
      : shared_(std::make_shared<Shared>(Shared{std::move(collect), 0})),
        logger_(logger),
        acceptor_(context_),
        pause_(context_) {}
  Server(const Server&) = delete;
  Server& operator=(const Server&) = delete;
  ~Server() override {
    context_.stop();
    if (thread_.joinable()) thread_.join();
    if (!socket_path_.empty()) {
      sys::remove_file(sys::kCwd, socket_path_).ignore("the next start replaces a dead socket");
    }
  }

  /// The acceptor has been opened by then.
  void run(std::string where, std::string socket_path) {
    where_ = std::move(where);
    socket_path_ = std::move(socket_path);
    accept();
    thread_ = std::thread([this] { context_.run(); });
    logger_.info(cat("metrics: serves ", where_));
  }
  typename Protocol::acceptor& acceptor() { return acceptor_; }
  std::string where() const override { return where_; }

 private:
  void accept() {
    acceptor_.async_accept([this](error_code failed, typename Protocol::socket socket) {
      if (failed == asio::error::operation_aborted) return;
      if (failed) {
        // Out of descriptors, most likely: the listener stays ready, so do not spin on it.
        pause_.expires_after(kPause);
        pause_.async_wait([this](error_code ended) {
          if (!ended) accept();
        });
        return;
      }
      if (shared_->connections < kMaxConnections) {
        std::make_shared<Guest<Protocol>>(shared_, std::move(socket))->begin();
      }
      accept();
    });
  }

  std::shared_ptr<Shared> shared_;
  Logger& logger_;
  asio::io_context context_{1};
  typename Protocol::acceptor acceptor_;
  asio::steady_timer pause_;
  std::thread thread_;
  std::string where_;
  std::string socket_path_;
};

Error cannot_listen(const std::string& where, const error_code& failed) {
  return {Code::kUnavailable, cat("metrics.listen: ", where, ": ", failed.message())};
}

Result<std::unique_ptr<MetricsServer>> start_tcp(const MetricsAddress& address,
                                                 std::function<std::string()> collect,
                                                 Logger& logger) {
  using Protocol = asio::ip::tcp;
  auto server = std::make_unique<Server<Protocol>>(std::move(collect), logger);
  error_code failed;
  const Protocol::endpoint endpoint(asio::ip::make_address(address.ip, failed), address.port);
  Protocol::acceptor& acceptor = server->acceptor();
  if (!failed) acceptor.open(endpoint.protocol(), failed);
  if (!failed) acceptor.set_option(Protocol::acceptor::reuse_address(true), failed);
  if (!failed) acceptor.bind(endpoint, failed);
  if (!failed) acceptor.listen(kBacklog, failed);
  const auto name = [&](uint16_t port) {
    return address.ip.find(':') == std::string::npos ? cat(address.ip, ":", port)
                                                     : cat("[", address.ip, "]:", port);
  };
  if (failed) return cannot_listen(name(address.port), failed);
  const uint16_t port = acceptor.local_endpoint(failed).port();
  server->run(cat("http://", name(port), "/metrics"), "");
  return std::unique_ptr<MetricsServer>(std::move(server));
}

Result<std::unique_ptr<MetricsServer>> start_unix(const MetricsAddress& address,
                                                  std::function<std::string()> collect,
                                                  Logger& logger) {
  using Protocol = asio::local::stream_protocol;
  sys::Fd listener = FLUYT_TRY_CONTEXT(
      sys::listen_unix(address.unix_path, SOCK_STREAM, kSocketMode, kBacklog), "metrics.listen");
  auto server = std::make_unique<Server<Protocol>>(std::move(collect), logger);
  error_code failed;
  server->acceptor().assign(Protocol(), listener.raw(), failed);
  if (failed) return cannot_listen(address.unix_path, failed);
  (void)listener.release();  // the acceptor's now
  server->run(cat("unix:", address.unix_path), address.unix_path);
  return std::unique_ptr<MetricsServer>(std::move(server));
}

}  // namespace

Result<MetricsAddress> parse_metrics_address(const std::string& text) {
  constexpr std::string_view kUnix = "unix:";
  MetricsAddress out;
  if (text.starts_with(kUnix)) {
    out.unix_path = text.substr(kUnix.size());
    if (out.unix_path.starts_with('/')) return out;
  } else if (const size_t colon = text.rfind(':'); colon != std::string::npos) {
    out.ip = text.substr(0, colon);
    if (out.ip.starts_with('[') && out.ip.ends_with(']')) out.ip = out.ip.substr(1, colon - 2);
    const auto port = parse_number<uint16_t>(std::string_view(text).substr(colon + 1));
    in6_addr room{};
    const bool is_four = ::inet_pton(AF_INET, out.ip.c_str(), &room) == 1;
    const bool is_six = text.starts_with('[') && ::inet_pton(AF_INET6, out.ip.c_str(), &room) == 1;
    if (port && (is_four || is_six)) {
      out.port = *port;
      return out;
    }
  }
  return Error(Code::kInvalidArgument,
               cat(quote(text), ": expected unix:/ABSOLUTE/PATH, IPV4:PORT or [IPV6]:PORT"));
}

Result<std::unique_ptr<MetricsServer>> MetricsServer::start(const std::string& address,
                                                            std::function<std::string()> collect,
                                                            Logger& logger) {
  const MetricsAddress parsed = FLUYT_TRY_CONTEXT(parse_metrics_address(address), "metrics.listen");
  return parsed.unix_path.empty() ? start_tcp(parsed, std::move(collect), logger)
                                  : start_unix(parsed, std::move(collect), logger);
}

}  // namespace fluyt::daemon
