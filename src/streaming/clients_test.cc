#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "base/base64.h"
#include "base/strings.h"
#include "streaming/client.h"
#include "streaming/loop.h"
#include "streaming/spdy/frames.h"

namespace fluyt::streaming {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;

/// Writes down what the client's side does with its connection.
class FakeWire final : public Wire {
 public:
  void start(std::shared_ptr<Handler> handler) override { handler->on_start(); }
  void send(std::string bytes) override { sent.push_back(std::move(bytes)); }
  bool is_full() const override { return false; }
  void pause_reading() override { paused = true; }
  void resume_reading() override { paused = false; }
  void close() override { closed = true; }
  void abort() override {}

  std::vector<std::string> sent;
  bool paused = false;
  bool closed = false;
};

class FakeRelay final : public Relay {
 public:
  void on_ready() override { heard.emplace_back("ready"); }
  void on_input(std::string_view bytes) override { heard.push_back(cat("input ", bytes)); }
  void on_input_end() override { heard.emplace_back("input ends"); }
  void on_resize(TerminalSize size) override {
    heard.push_back(cat("size ", size.width, "x", size.height));
  }
  void on_room() override { heard.emplace_back("room"); }
  std::vector<std::string> heard;
};

struct Fixture {
  std::shared_ptr<FakeWire> wire = std::make_shared<FakeWire>();
  std::shared_ptr<FakeRelay> relay = std::make_shared<FakeRelay>();
  Client* client = nullptr;
  std::shared_ptr<Wire::Handler> handler;

  MakeRelay make_relay() {
    return [this](Client& made) {
      client = &made;
      return relay;
    };
  }
};

// SPDY
// ----------------------------------------------------------------------------------------------

/// What a SPDY client reads of us.
class Peer final : public spdy::FrameVisitor {
 public:
  std::vector<std::string> seen;
  void on_syn_stream(const spdy::SynStream& /*frame*/) override {}
  void on_syn_reply(uint32_t stream, bool /*fin*/) override {
    seen.push_back(cat("reply ", stream));
  }
  void on_data(uint32_t stream, std::string_view bytes) override {
    seen.push_back(cat("data ", stream, " ", bytes));
  }
  void on_fin(uint32_t stream) override { seen.push_back(cat("fin ", stream)); }
  void on_reset(uint32_t stream, uint32_t status) override {
    seen.push_back(cat("reset ", stream, " ", status));
  }
  void on_ping(uint32_t /*id*/) override {}
  void on_go_away() override { seen.emplace_back("goaway"); }
};

class SpdyClients : public testing::Test, protected Fixture {
 protected:
  void TearDown() override { handler.reset(); }  // before the loop that has its timer
  void begin(Version version, Streams streams, int64_t streams_ms = 60'000) {
    handler = make_spdy_client(*loop, wire, version, streams, streams_ms, make_relay());
  }
  void open(uint32_t id, const std::string& type) {
    handler->on_bytes(
        spdy::write_syn_stream({.id = id, .headers = {{"streamtype", type}}}, deflater));
  }
  std::vector<std::string> seen() {
    Peer peer;
    spdy::FrameReader reader(peer);
    for (const std::string& bytes : wire->sent) EXPECT_TRUE(reader.feed(bytes).ok());
    return peer.seen;
  }

  std::unique_ptr<Loop> loop = Loop::create();
  spdy::HeaderDeflater deflater;
};

TEST_F(SpdyClients, AreReadyWithTheirLastStream) {
  begin(Version::kV4, {.in = true, .out = true, .err = false, .terminal = true});
  open(1, "error");
  open(3, "stdin");
  open(5, "stdout");
  EXPECT_THAT(relay->heard, IsEmpty());
  open(7, "resize");
  EXPECT_THAT(relay->heard, ElementsAre("ready"));
}

TEST_F(SpdyClients, OlderVersionsHaveNoResizeStream) {
  begin(Version::kV2, {.in = false, .out = true, .err = false, .terminal = true});
  open(1, "error");
  open(3, "stdout");
  EXPECT_THAT(relay->heard, ElementsAre("ready"));
}

TEST_F(SpdyClients, StreamsThatWereNotAnnouncedOrComeTwiceAreRefused) {
  begin(Version::kV4, {.in = false, .out = true, .err = false, .terminal = false});
  open(1, "error");
  open(3, "error");
  open(5, "stdin");
  open(7, "sideways");
  open(9, "stdout");
  EXPECT_THAT(seen(), ElementsAre("reply 1", "reply 3", "reset 3 3", "reply 5", "reset 5 3",
                                  "reply 7", "reset 7 3", "reply 9"));
  EXPECT_THAT(relay->heard, ElementsAre("ready"));
}

TEST_F(SpdyClients, InputItsEndAndSizesReachTheRelay) {
  begin(Version::kV4, {.in = true, .out = true, .err = false, .terminal = true});
  open(1, "error");
  open(3, "stdin");
  open(5, "stdout");
  open(7, "resize");
  handler->on_bytes(spdy::write_data(3, "hello", false));
  handler->on_bytes(spdy::write_data(7, R"({"Width":80,"Height":24})", false));
  handler->on_bytes(spdy::write_data(5, "not theirs to write", false));
  handler->on_bytes(spdy::write_data(3, "", true));
  EXPECT_THAT(relay->heard, ElementsAre("ready", "input hello", "size 80x24", "input ends"));
}

TEST_F(SpdyClients, InputEndsOnce) {
  begin(Version::kV4, {.in = true, .out = false, .err = false, .terminal = false});
  open(1, "error");
  open(3, "stdin");
  handler->on_bytes(spdy::write_data(3, "", true));
  handler->on_bytes(spdy::write_reset(3, spdy::ResetStatus::kCancel));
  EXPECT_THAT(relay->heard, ElementsAre("ready", "input ends"));
}

TEST_F(SpdyClients, TheOutcomeComesBehindAllOutput) {
  begin(Version::kV4, {.in = true, .out = true, .err = true, .terminal = false});
  open(1, "error");
  open(3, "stdin");
  open(5, "stdout");
  open(7, "stderr");
  wire->sent.clear();
  client->send(Channel::kOut, "out");
  client->send(Channel::kErr, "err");
  client->end(exited(0));
  EXPECT_THAT(seen(), ElementsAre("data 5 out", "data 7 err", "fin 5", "fin 7",
                                  R"(data 1 {"metadata":{},"status":"Success"})", "fin 1", "fin 3",
                                  "goaway"));
  EXPECT_TRUE(wire->closed);
}

TEST_F(SpdyClients, OneThatMakesNoStreamsIsGivenUp) {
  begin(Version::kV4, {.in = false, .out = true, .err = false, .terminal = false}, 10);
  open(1, "error");
  const auto end = loop->after(50, [this] { loop->stop(); });
  loop->run();
  EXPECT_THAT(seen().at(1), HasSubstr("did not make its streams in time"));
  EXPECT_TRUE(wire->closed);
}

TEST_F(SpdyClients, OneThatBreaksTheProtocolIsLeft) {
  begin(Version::kV4, {.in = false, .out = true, .err = false, .terminal = false});
  handler->on_bytes(std::string(64, '\xff'));
  EXPECT_THAT(seen(), ElementsAre("goaway"));
  EXPECT_TRUE(wire->closed);
}

// WebSocket
// -----------------------------------------------------------------------------------------

class SocketClients : public testing::Test, protected Fixture {
 protected:
  void begin(WebSocketUpgrade how,
             Streams streams = {.in = true, .out = true, .err = true, .terminal = false}) {
    handler = make_websocket_client(wire, how, streams, make_relay());
    handler->on_start();
  }
  static std::string message(char channel, const std::string& bytes) { return channel + bytes; }
};

TEST_F(SocketClients, AnEmptyMessageTellsThatTheConnectionStands) {
  begin({Version::kV4, false, false});
  EXPECT_THAT(wire->sent, ElementsAre(message(1, "")));
  EXPECT_THAT(relay->heard, ElementsAre("ready"));
}

TEST_F(SocketClients, TheFirstByteIsTheChannel) {
  begin({Version::kV4, false, false});
  handler->on_bytes(message(0, "hello"));
  handler->on_bytes(message(4, R"({"Width":80,"Height":24})"));
  handler->on_bytes(message(1, "not theirs to write"));
  handler->on_bytes("");
  EXPECT_THAT(relay->heard, ElementsAre("ready", "input hello", "size 80x24"));
}

TEST_F(SocketClients, TheCloseSignalIsOfV5) {
  begin({Version::kV5, false, false});
  handler->on_bytes(message('\xff', std::string(1, '\1')));  // of a channel of ours
  handler->on_bytes(message('\xff', ""));
  handler->on_bytes(message('\xff', std::string(1, '\0')));
  EXPECT_THAT(relay->heard, ElementsAre("ready", "input ends"));
}

TEST_F(SocketClients, V4HasNoCloseSignal) {
  begin({Version::kV4, false, false});
  handler->on_bytes(message('\xff', std::string(1, '\0')));
  EXPECT_THAT(relay->heard, ElementsAre("ready"));
}

TEST_F(SocketClients, NothingIsReadBehindTheEndOfInputNorWhereThereIsNone) {
  const std::string end = message('\xff', std::string(1, '\0'));
  begin({Version::kV5, false, false});
  handler->on_bytes(end);
  handler->on_bytes(message(0, "too late"));
  handler->on_bytes(end);
  EXPECT_THAT(relay->heard, ElementsAre("ready", "input ends"));
  relay->heard.clear();
  begin({Version::kV5, false, false}, {.in = false, .out = true, .err = false, .terminal = false});
  handler->on_bytes(end);
  EXPECT_THAT(relay->heard, ElementsAre("ready"));
}

TEST_F(SocketClients, Base64IsTextBothWays) {
  begin({Version::kV4, true, false});
  handler->on_bytes("0" + base64_encode("hello"));
  client->send(Channel::kErr, "err");
  EXPECT_THAT(relay->heard, ElementsAre("ready", "input hello"));
  EXPECT_THAT(wire->sent, ElementsAre("1", "2" + base64_encode("err")));
  handler->on_bytes("0no base64!");
  EXPECT_TRUE(wire->closed);
}

TEST_F(SocketClients, OutputThatWasNotAskedForIsDropped) {
  begin({Version::kV4, false, false}, {.in = false, .out = false, .err = true, .terminal = false});
  handler->on_bytes(message(0, "nobody reads it"));
  client->send(Channel::kOut, "out");
  EXPECT_THAT(wire->sent, ElementsAre(message(2, "")));
  EXPECT_THAT(relay->heard, ElementsAre("ready"));
}

TEST_F(SocketClients, TheOutcomeIsTheLastMessage) {
  begin({Version::kV5, false, false});
  client->send(Channel::kOut, "out");
  client->end(exited(0));
  EXPECT_THAT(wire->sent, ElementsAre(message(1, ""), message(1, "out"),
                                      message(3, R"({"metadata":{},"status":"Success"})")));
  EXPECT_TRUE(wire->closed);
}

}  // namespace
}  // namespace fluyt::streaming
