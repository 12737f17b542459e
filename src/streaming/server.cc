#include "streaming/server.h"

#include <arpa/inet.h>

#include <atomic>
#include <future>
#include <thread>
#include <utility>
#include <variant>
#include <vector>

#include "base/guarded.h"
#include "base/strings.h"
#include "engine/engine.h"
#include "streaming/attach.h"
#include "streaming/client.h"
#include "streaming/connection.h"
#include "streaming/exec.h"
#include "streaming/farewell.h"
#include "streaming/loop.h"
#include "streaming/port_forward.h"
#include "streaming/tokens.h"
#include "streaming/workers.h"

namespace fluyt::streaming {
namespace {

/// For the engine's verbs, most of which take milliseconds.
constexpr size_t kMaxWorkers = 16;

Error invalid(std::string text) {
  return Error(Code::kInvalidArgument, "cri.streaming." + std::move(text));
}

bool is_loopback(const std::string& address) {
  in_addr four{};
  in6_addr six{};
  if (::inet_pton(AF_INET, address.c_str(), &four) == 1) {
    return (ntohl(four.s_addr) >> 24U) == 127;
  }
  return ::inet_pton(AF_INET6, address.c_str(), &six) == 1 && IN6_IS_ADDR_LOOPBACK(&six);
}

bool is_address(const std::string& address) {
  in6_addr room{};
  return ::inet_pton(AF_INET, address.c_str(), &room) == 1 ||
         ::inet_pton(AF_INET6, address.c_str(), &room) == 1;
}

/// Where a client on this host finds a server that listens on `address`.
std::string host_of(const std::string& address) {
  if (address == "0.0.0.0") return "127.0.0.1";
  if (address == "::") return "[::1]";
  return address.find(':') == std::string::npos ? address : cat("[", address, "]");
}

Result<> check_streams(const Streams& streams) {
  if (!streams.in && !streams.out && !streams.err) {
    return Error(Code::kInvalidArgument, "stdin, stdout, stderr: expected one of them at least");
  }
  if (streams.terminal && streams.err) {
    return Error(Code::kInvalidArgument, "stderr: expected false with tty, which has one output");
  }
  return {};
}

class StreamingServer final : public Server, private Admission {
 public:
  StreamingServer(const Options& options, engine::Engine& engine, Logger& logger)
      : options_(options),
        engine_(engine),
        logger_(logger),
        loop_(Loop::create()),
        workers_(kMaxWorkers),
        farewells_(*loop_, workers_),
        context_{engine, *loop_, workers_, farewells_, logger, options.streams_ms} {}
  StreamingServer(const StreamingServer&) = delete;
  StreamingServer& operator=(const StreamingServer&) = delete;
  ~StreamingServer() override { stop(Deadline::never()); }

  Result<> open() {
    if (!options_.tls.certificate.empty()) tls_ = FLUYT_TRY(Tls::load(options_.tls, logger_));
    door_ = FLUYT_TRY(Door::open(*loop_, door_options(options_), tls_.get(), *this, logger_));
    door_->start();
    *place_.lock() = {options_.address, options_.port};
    *base_.lock() = base();
    thread_ = std::thread([this] { loop_->run(); });
    logger_.info(cat("streaming: serves ", *base_.lock()));
    return {};
  }

  Result<std::string> exec_url(ExecCall call) override {
    FLUYT_TRY(check_streams(call.streams));
    if (call.command.empty()) {
      return Error(Code::kInvalidArgument, "cmd: []: expected a program and its arguments");
    }
    call.container_id = FLUYT_TRY(running(call.container_id))->id;
    return url_for(std::move(call));
  }

  Result<std::string> attach_url(AttachCall call) override {
    FLUYT_TRY(check_streams(call.streams));
    const auto container = FLUYT_TRY(running(call.container_id));
    if (call.streams.in && !container->config.open_stdin) {
      return Error(Code::kFailedPrecondition,
                   cat("stdin: container ", container->id, " was made without standard input"));
    }
    call.container_id = container->id;
    call.container_terminal = container->config.tty;
    return url_for(std::move(call));
  }

  Result<std::string> port_forward_url(PortForwardCall call) override {
    const auto sandbox = FLUYT_TRY(engine_.get_sandbox(call.sandbox_id));
    if (sandbox->state != engine::SandboxState::kReady) {
      return Error(Code::kFailedPrecondition, cat("sandbox ", sandbox->id, " is ",
                                                  name_of(sandbox->state), ": expected ready"));
    }
    call.sandbox_id = sandbox->id;
    return url_for(std::move(call));
  }

  Result<std::function<void()>> prepare(const Options& options) override {
    FLUYT_TRY(check_options(options));
    std::shared_ptr<Tls> tls;
    if (!options.tls.certificate.empty()) tls = FLUYT_TRY(Tls::load(options.tls, logger_));
    // Elsewhere: it listens before anything has changed, and takes connections when all has.
    std::shared_ptr<Door> door;
    if (Place{options.address, options.port} != *place_.lock()) {
      door = FLUYT_TRY(Door::open(*loop_, door_options(options), tls.get(), *this, logger_));
    }
    return std::function<void()>([this, options, tls, door] {
      *place_.lock() = {options.address, options.port};
      loop_->post([this, options, tls, door] { change(options, tls, door); });
    });
  }

  bool stop(Deadline deadline) override {
    if (thread_.joinable()) {
      loop_->post([this] {
        door_->close();
        for (const auto& door : retired_) door->close();
        // After what the ends of the connections have posted.
        loop_->post([this] {
          farewells_.end_all();
          loop_->stop();
        });
      });
      thread_.join();
    }
    return workers_.drain(deadline);
  }

 private:
  using Place = std::pair<std::string, uint16_t>;  // address and port as they were asked for

  static DoorOptions door_options(const Options& options) {
    DoorOptions door{.address = options.address, .port = options.port};
    door.max_connections = options.max_connections;
    door.limits.idle_ms = options.idle_ms;
    return door;
  }

  std::string base() const {
    return cat(tls_ ? "https" : "http", "://", host_of(options_.address), ":", door_->port(), "/");
  }

  /// On the loop's thread.
  void change(Options options, std::shared_ptr<Tls> tls, std::shared_ptr<Door> door) {
    options_ = std::move(options);
    context_.streams_ms = options_.streams_ms;
    std::erase_if(retired_, [](const auto& old) { return old->connections() == 0; });
    if (door) {
      door_->retire();
      retired_.push_back(std::exchange(door_, std::move(door)));
      door_->start();
    } else {
      door_->change(door_options(options_), tls.get());
    }
    tls_ = std::move(tls);
    std::string now = base();
    const bool is_other = *base_.lock() != now;
    if (is_other) logger_.info(cat("streaming: serves ", now));
    *base_.lock() = std::move(now);
  }

  Result<engine::ContainerPtr> running(const std::string& id) {
    auto container = FLUYT_TRY(engine_.get_container(id));
    if (container->state != engine::ContainerState::kRunning) {
      return Error(Code::kFailedPrecondition, cat("container ", container->id, " is ",
                                                  name_of(container->state), ": expected running"));
    }
    return container;
  }

  Result<std::string> url_for(Call call) {
    const std::string verb(verb_of(call));
    const std::string token = FLUYT_TRY(tokens_.lock()->insert(std::move(call), now_boot_ns()));
    return cat(*base_.lock(), verb, "/", token);
  }

  Open admit(const Upgrade& upgrade) override {
    auto call = tokens_.lock()->take(upgrade.verb, upgrade.token, now_boot_ns());
    if (!call) return {};
    return [this, call = std::move(*call), how = upgrade.how](std::shared_ptr<Wire> wire) {
      return handler_for(call, how, std::move(wire));
    };
  }

  std::shared_ptr<Wire::Handler> handler_for(const Call& call,
                                             const std::variant<SpdyUpgrade, WebSocketUpgrade>& how,
                                             std::shared_ptr<Wire> wire) {
    if (const auto* ports = std::get_if<PortForwardCall>(&call)) {
      return make_port_forward(context_, std::move(wire), *ports);
    }
    const auto* exec = std::get_if<ExecCall>(&call);
    const auto* attach = std::get_if<AttachCall>(&call);
    const Streams streams = exec != nullptr ? exec->streams : attach->streams;
    const MakeRelay make_relay = [&](Client& client) {
      return exec != nullptr ? make_exec(context_, *exec, client)
                             : make_attach(context_, *attach, client);
    };
    if (const auto* spdy = std::get_if<SpdyUpgrade>(&how)) {
      return make_spdy_client(*loop_, std::move(wire), spdy->version, streams, options_.streams_ms,
                              make_relay);
    }
    return make_websocket_client(std::move(wire), std::get<WebSocketUpgrade>(how), streams,
                                 make_relay);
  }

  Options options_;  // after the start of the loop's thread alone
  engine::Engine& engine_;
  Logger& logger_;
  std::unique_ptr<Loop> loop_;
  Workers workers_;
  Farewells farewells_;
  Context context_;
  Guarded<Tokens> tokens_;
  std::shared_ptr<Tls> tls_;
  std::shared_ptr<Door> door_;
  std::vector<std::shared_ptr<Door>> retired_;  // their sessions go on
  Guarded<Place> place_;
  Guarded<std::string> base_;
  std::thread thread_;
};

}  // namespace

Result<> check_options(const Options& options) {
  if (!is_address(options.address)) {
    return invalid(cat("address: ", quote(options.address), ": expected an IP address"));
  }
  const TlsFiles& tls = options.tls;
  if (tls.certificate.empty() != tls.key.empty()) {
    return invalid(tls.key.empty() ? "tls_key: expected with tls_cert"
                                   : "tls_cert: expected with tls_key");
  }
  if (!tls.client_ca.empty() && tls.certificate.empty()) {
    return invalid("tls_client_ca: expected with tls_cert and tls_key alone");
  }
  if (!is_loopback(options.address) && tls.certificate.empty()) {
    return invalid(cat("address: ", options.address,
                       ": expected a loopback address, or tls_cert and tls_key: whoever reads an "
                       "address on its way can run programs"));
  }
  return {};
}

Result<std::unique_ptr<Server>> Server::start(const Options& options, engine::Engine& engine,
                                              Logger& logger) {
  FLUYT_TRY(check_options(options));
  auto server = std::make_unique<StreamingServer>(options, engine, logger);
  FLUYT_TRY(server->open());
  return std::unique_ptr<Server>(std::move(server));
}

}  // namespace fluyt::streaming
