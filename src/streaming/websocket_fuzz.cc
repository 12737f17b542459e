#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <boost/asio/executor_work_guard.hpp>
#include <boost/asio/io_context.hpp>
#include <chrono>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <set>
#include <string>
#include <string_view>

#include "base/base64.h"
#include "base/strings.h"
#include "engine/testing/fakes.h"
#include "streaming/client.h"
#include "streaming/connection.h"
#include "streaming/context.h"
#include "streaming/port_forward.h"
#include "streaming/spdy/frames.h"
#include "streaming/spdy/pieces.h"
#include "sys/file.h"

/// What a hostile client may send to the door and behind it: a request, then frames of WebSocket
/// (or of SPDY, where that was agreed), over a pair of sockets. Behind the door are our clients'
/// sides with a relay that sends back what comes in, and port-forward with a pod that is not there.
///
///     byte 0   what is asked for: one of kRequests, or the input's own head up to its empty line
///     byte 1   how the rest is to be read (kFramed, kHold, kEndAtInputEnd), and in what pieces
///     the rest bytes as they are, or in frames that are well formed
namespace {

using namespace fluyt;
using namespace fluyt::streaming;

void must(bool holds, int line = __builtin_LINE()) {
  if (holds) return;
  std::fprintf(stderr, "%s:%d: does not hold\n", __FILE__, line);
  abort();
}

// How the input is to be read.
constexpr uint8_t kFramed = 0x80;
constexpr uint8_t kHold = 0x40;
constexpr uint8_t kEndAtInputEnd = 0x20;
constexpr uint8_t kPiece = 0x1f;

struct Request {
  std::string_view verb;
  std::string_view socket;  // the protocol asked for over WebSocket; empty: none, "-": SPDY
  std::string_view spdy;
};
constexpr std::array<Request, 15> kRequests = {{{"exec", "v5.channel.k8s.io", ""},
                                                {"exec", "v4.channel.k8s.io", ""},
                                                {"attach", "v5.channel.k8s.io", ""},
                                                {"attach", "v4.channel.k8s.io", ""},
                                                {"exec", "v4.base64.channel.k8s.io", ""},
                                                {"exec", "base64.channel.k8s.io", ""},
                                                {"attach", "channel.k8s.io", ""},
                                                {"exec", "", ""},
                                                {"portforward", "SPDY/3.1+portforward.k8s.io", ""},
                                                {"portforward", "v4.channel.k8s.io", ""},
                                                {"exec", "-", "v4.channel.k8s.io"},
                                                {"attach", "-", "v3.channel.k8s.io"},
                                                {"exec", "-", "v2.channel.k8s.io"},
                                                {"exec", "-", ""},
                                                {"portforward", "-", "portforward.k8s.io"}}};

std::string head_of(const Request& request) {
  std::string head = cat("GET /", request.verb, "/good HTTP/1.1\r\nHost: h\r\n");
  head += "Connection: Upgrade\r\n";
  if (request.socket == "-") {
    head += "Upgrade: SPDY/3.1\r\n";
    if (!request.spdy.empty()) head += cat("X-Stream-Protocol-Version: ", request.spdy, "\r\n");
    return head + "\r\n";
  }
  head += "Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\n";
  head += "Sec-WebSocket-Key: MDEyMzQ1Njc4OWFiY2RlZg==\r\n";
  if (!request.socket.empty()) head += cat("Sec-WebSocket-Protocol: ", request.socket, "\r\n");
  return head + "\r\n";
}

/// What came in and what is known of its end, for the look at what was sent.
struct Heard {
  bool agreed = false;
  Upgrade upgrade;
  Streams streams;
  std::string input;
  bool ready = false;
  bool input_ended = false;
  bool ended = false;  // by the relay
};

/// Sends back what comes in, and finds out when it is told what no relay may be told.
class Echo final : public Relay {
 public:
  Echo(Heard& heard, uint8_t how, Client& client) : heard_(heard), how_(how), client_(client) {}

  void on_ready() override {
    must(!heard_.ready);
    heard_.ready = true;
  }
  void on_input(std::string_view bytes) override {
    must(heard_.streams.in && !bytes.empty() && !heard_.input_ended);
    must(bytes.size() <= 1UL << 20U);
    if (heard_.ended) return;
    if (heard_.ready) {
      heard_.input += bytes;
      client_.send(Channel::kOut, bytes);
    }
    if ((how_ & kHold) != 0) client_.hold_input();
  }
  void on_input_end() override {
    must(heard_.streams.in && !heard_.input_ended);
    heard_.input_ended = true;
    if ((how_ & kEndAtInputEnd) == 0 || heard_.ended) return;
    heard_.ended = true;
    client_.end(exited(3));
  }
  void on_resize(TerminalSize /*size*/) override { must(heard_.upgrade.verb != "portforward"); }
  void on_room() override {}
  void resume() { client_.resume_input(); }

 private:
  Heard& heard_;
  const uint8_t how_;
  Client& client_;
};

class World final : public Admission {
 public:
  World() {
    auto opened =
        engine::Engine::open({.root = folder_.path() + "/root", .state = folder_.path() + "/state"},
                             engine::testing::parts_over(fakes_), logger_);
    must(opened.ok());
    engine_ = std::move(*opened);
    context_.emplace(
        Context{*engine_, *loop_, workers_, farewells_, logger_, /*streams_ms=*/30'000});
    DoorOptions options;
    options.address = "127.0.0.1";
    options.limits.goodbye_ms = 5;
    auto door = Door::open(*loop_, options, nullptr, *this, logger_);
    must(door.ok());
    door_ = std::move(*door);  // it is never started: nothing listens to anybody else
    door_->retire();
  }

  Open admit(const Upgrade& upgrade) override {
    const auto* socket = std::get_if<WebSocketUpgrade>(&upgrade.how);
    const bool forwards = upgrade.verb == "portforward";
    must(forwards || upgrade.verb == "exec" || upgrade.verb == "attach");
    must(socket == nullptr || socket->tunnel == forwards);
    must(!upgrade.token.empty());
    if (upgrade.token != "good") return {};
    heard_.agreed = true;
    heard_.upgrade = upgrade;
    return [this](std::shared_ptr<Wire> wire) { return serve(std::move(wire)); };
  }

  void run(std::string_view input) {
    if (input.size() < 2) return;
    const auto request = static_cast<uint8_t>(input[0]);
    how_ = static_cast<uint8_t>(input[1]);
    input.remove_prefix(2);
    heard_ = {};
    // Every second request comes for a terminal, which has no standard error.
    const bool terminal = (request & 0x10) != 0;
    heard_.streams = {
        .in = (request & 0x20) == 0, .out = true, .err = !terminal, .terminal = terminal};
    received_.clear();
    std::array<int, 2> pair{};
    must(::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, pair.data()) == 0);
    client_ = sys::Fd(pair[0]);
    door_->take(sys::Fd(pair[1]));

    const size_t which = request & 0x0fU;
    if (which < kRequests.size()) {
      give(head_of(kRequests.at(which)));
    } else {
      const size_t end = input.find("\r\n\r\n");
      const size_t size = end == std::string_view::npos ? input.size() : end + 4;
      give(input.substr(0, size));
      input.remove_prefix(size);
    }
    give((how_ & kFramed) != 0 ? framed(input) : std::string(input));
    ::shutdown(client_.raw(), SHUT_WR);
    drive();
    // Whoever has nothing more to say is gone, with all that was his: at once, or where we were
    // saying goodbye and he broke the protocol meanwhile, when that has lasted its time.
    const Deadline patience = Deadline::after_ms(5'000);
    while (door_->connections() != 0 && !patience.passed())
      loop_->context().run_one_for(std::chrono::milliseconds(1));
    must(door_->connections() == 0);
    must(relay_.expired() && handler_.expired());
    check();
  }

 private:
  std::shared_ptr<Wire::Handler> serve(std::shared_ptr<Wire> wire) {
    std::shared_ptr<Wire::Handler> handler;
    const MakeRelay make_relay = [this](Client& client) {
      auto relay = std::make_shared<Echo>(heard_, how_, client);
      relay_ = relay;
      return relay;
    };
    if (heard_.upgrade.verb == "portforward") {
      handler = make_port_forward(*context_, std::move(wire), {.sandbox_id = "none"});
    } else if (const auto* spdy = std::get_if<SpdyUpgrade>(&heard_.upgrade.how)) {
      handler = make_spdy_client(*loop_, std::move(wire), spdy->version, heard_.streams, 30'000,
                                 make_relay);
    } else {
      handler =
          make_websocket_client(std::move(wire), std::get<WebSocketUpgrade>(heard_.upgrade.how),
                                heard_.streams, make_relay);
    }
    handler_ = handler;
    return handler;
  }

  /// Everything that can happen now happens.
  void drive() {
    for (size_t idle = 0; idle < 2;) {
      must(workers_.drain(Deadline::never()));
      size_t moved = loop_->context().poll();
      if ((how_ & kHold) != 0) {
        if (const auto relay = relay_.lock()) relay->resume();
      }
      std::array<char, 16384> buffer{};
      const ssize_t size = ::read(client_.raw(), buffer.data(), buffer.size());
      if (size > 0) {
        received_.append(buffer.data(), static_cast<size_t>(size));
        ++moved;
      }
      idle = moved == 0 ? idle + 1 : 0;
    }
  }

  void give(std::string_view bytes) {
    const size_t piece = (how_ & kPiece) == 0 ? 65536 : static_cast<size_t>(how_ & kPiece) * 16;
    while (!bytes.empty()) {
      const auto next = bytes.substr(0, piece);
      const ssize_t size = ::send(client_.raw(), next.data(), next.size(), MSG_NOSIGNAL);
      drive();
      if (size <= 0) return;  // we were left
      bytes.remove_prefix(static_cast<size_t>(size));
    }
  }

  /// Well-formed frames, of what was agreed.
  std::string framed(std::string_view input) const {
    const bool socket = std::holds_alternative<WebSocketUpgrade>(heard_.upgrade.how);
    const bool spdy = !socket || heard_.upgrade.verb == "portforward";
    spdy::HeaderDeflater deflater;
    std::string all;
    for (spdy::Piece& piece : spdy::read_pieces(input)) {
      if (spdy) piece.bytes = spdy::frame_of(piece, deflater);
      all += socket ? socket_frame(piece.kind, std::move(piece.bytes)) : piece.bytes;
    }
    return all;
  }

  static std::string socket_frame(uint8_t kind, std::string payload) {
    constexpr std::array<uint8_t, 8> kOpcodes = {2, 2, 2, 1, 0, 8, 9, 10};
    std::string frame(
        1, static_cast<char>(((kind & 0x08U) == 0 ? 0x80 : 0) | kOpcodes.at(kind & 0x07U)));
    if (payload.size() < 126) {
      frame += static_cast<char>(0x80 | payload.size());
    } else {
      frame += static_cast<char>(0x80 | 127);
      for (int shift = 56; shift >= 0; shift -= 8)
        frame += static_cast<char>(payload.size() >> static_cast<unsigned>(shift));
    }
    const char mask = static_cast<char>(kind);
    frame += std::string(4, mask);
    for (char& c : payload) c = static_cast<char>(c ^ mask);
    return frame + payload;
  }

  // What was sent ------------------------------------------------------------------------------

  void check() const {
    std::string_view rest = received_;
    if (rest.empty()) return;
    must(rest.starts_with("HTTP/1.1 "));
    const size_t end = rest.find("\r\n\r\n");
    must(end != std::string_view::npos);
    const std::string_view head = rest.substr(0, end);
    must(head.find('\0') == std::string_view::npos);
    const auto status = parse_number<unsigned>(head.substr(9, 3));
    must(status.has_value());
    rest.remove_prefix(end + 4);
    if (*status != 101) {
      // Of WebSocket's own handshake: 400 and 426.
      static const std::set<unsigned> kKnown = {400, 403, 404, 405, 426, 431};
      must(kKnown.contains(*status) && !heard_.ready);
      return;
    }
    must(heard_.agreed);
    if (std::holds_alternative<SpdyUpgrade>(heard_.upgrade.how)) {
      check_spdy(rest);
    } else {
      check_socket(rest);
    }
  }

  class Reader final : public spdy::FrameVisitor {
   public:
    std::set<uint32_t> closed;

   private:
    void on_syn_stream(const spdy::SynStream& /*frame*/) override { abort(); }  // never ours
    void on_syn_reply(uint32_t stream, bool /*fin*/) override { must(!closed.contains(stream)); }
    void on_data(uint32_t stream, std::string_view /*bytes*/) override {
      must(!closed.contains(stream));
    }
    void on_fin(uint32_t stream) override { must(closed.insert(stream).second); }
    void on_reset(uint32_t stream, uint32_t /*status*/) override { closed.insert(stream); }
    void on_ping(uint32_t /*id*/) override {}
    void on_go_away() override {}
  };
  static void check_spdy(std::string_view bytes) {
    Reader reader;
    must(spdy::FrameReader(reader).feed(bytes).ok());
  }

  void check_socket(std::string_view rest) const {
    const auto& how = std::get<WebSocketUpgrade>(heard_.upgrade.how);
    std::string tunnel;
    std::string out;
    bool first = true;
    bool closed = false;
    bool outcome = false;
    while (rest.size() >= 2) {
      const auto start = static_cast<uint8_t>(rest[0]);
      const uint8_t opcode = start & 0x0fU;
      must((start & 0xf0U) == 0x80);  // whole, and nothing that was not agreed on
      size_t length = static_cast<uint8_t>(rest[1]);
      must(length < 0x80);  // a server does not mask
      size_t head = 2;
      if (length >= 126) {
        const size_t count = length == 126 ? 2 : 8;
        must(opcode < 8);
        if (rest.size() < head + count) return;
        length = 0;
        for (size_t i = 0; i < count; ++i)
          length = length << 8U | static_cast<uint8_t>(rest[head + i]);
        head += count;
      }
      if (rest.size() - head < length) return;  // cut off with the connection
      const std::string_view payload = rest.substr(head, length);
      rest.remove_prefix(head + length);
      must(!closed);
      if (opcode >= 8) {
        must(opcode <= 10);
        closed = opcode == 8;
        continue;
      }
      must(opcode == (how.base64 ? 1 : 2));
      if (how.tunnel) {
        tunnel += payload;
        continue;
      }
      must(!payload.empty() && !outcome);
      const int channel = payload[0] - (how.base64 ? '0' : 0);
      std::string bytes(payload.substr(1));
      if (how.base64) {
        const auto decoded = base64_decode(payload.substr(1));
        must(decoded.has_value());
        bytes = *decoded;
      }
      if (first) must(bytes.empty());
      must(first || !bytes.empty());
      first = false;
      must(channel == 1 || channel == 3);
      outcome = channel == 3;
      if (channel == 1) out += bytes;
    }
    if (how.tunnel) return check_spdy(tunnel);
    // What came in is what went out, in its order, and all of it where the end was regular.
    must(heard_.input.starts_with(out));
    if (outcome) must(heard_.ended && out == heard_.input);
  }

  engine::testing::FakeWorld fakes_;
  NullLogger logger_;
  sys::TempDir folder_ = std::move(*sys::TempDir::create());
  std::unique_ptr<engine::Engine> engine_;
  std::unique_ptr<Loop> loop_ = Loop::create();
  const boost::asio::executor_work_guard<boost::asio::io_context::executor_type> work_{
      loop_->context().get_executor()};
  Workers workers_{1};
  Farewells farewells_{*loop_, workers_};
  std::optional<Context> context_;
  std::unique_ptr<Door> door_;
  uint8_t how_ = 0;
  Heard heard_;
  sys::Fd client_;
  std::string received_;
  std::weak_ptr<Echo> relay_;
  std::weak_ptr<Wire::Handler> handler_;
};

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  static World world;
  world.run({reinterpret_cast<const char*>(data), size});
  return 0;
}
