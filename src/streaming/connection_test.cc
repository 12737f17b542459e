#include "streaming/connection.h"

#include <arpa/inet.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>

#include <array>
#include <csignal>
#include <future>
#include <thread>
#include <utility>

#include "base/strings.h"
#include "sys/file.h"

namespace fluyt::streaming {
namespace {

using testing::HasSubstr;
using testing::StartsWith;

/// What a test lets happen on a connection; called on the loop's thread.
struct Script {
  std::function<void(Wire&)> on_start = [](Wire&) {};
  std::function<void(Wire&, std::string_view)> on_bytes = [](Wire&, std::string_view) {};
  std::function<void(Wire&)> on_room = [](Wire&) {};
  std::promise<void> gone;  // the first that goes
  bool is_gone = false;
};

class Actor final : public Wire::Handler {
 public:
  Actor(Script& script, std::shared_ptr<Wire> wire) : script_(script), wire_(std::move(wire)) {}
  void on_start() override { script_.on_start(*wire_); }
  void on_bytes(std::string_view bytes) override { script_.on_bytes(*wire_, bytes); }
  void on_room() override { script_.on_room(*wire_); }
  void on_gone() override {
    if (!std::exchange(script_.is_gone, true)) script_.gone.set_value();
  }

 private:
  Script& script_;
  std::shared_ptr<Wire> wire_;
};

class Connections : public testing::Test, public Admission {
 protected:
  static void SetUpTestSuite() { (void)std::signal(SIGPIPE, SIG_IGN); }
  void TearDown() override {
    if (!thread_.joinable()) return;
    loop->post([this] {
      door->close();
      loop->post([this] { loop->stop(); });
    });
    thread_.join();
  }

  void open(DoorOptions options = {}) {
    options.address = "127.0.0.1";
    auto opened = Door::open(*loop, options, nullptr, *this, logger);
    ASSERT_TRUE(opened.ok()) << opened.error().message();
    door = std::move(*opened);
    door->start();
    thread_ = std::thread([this] { loop->run(); });
  }

  Open admit(const Upgrade& upgrade) override {
    if (upgrade.token != "good") return {};
    return [this](std::shared_ptr<Wire> wire) {
      return std::make_shared<Actor>(script, std::move(wire));
    };
  }

  sys::Fd client() const {
    sys::Fd socket(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_port = htons(door->port());
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    EXPECT_EQ(::connect(socket.raw(), reinterpret_cast<sockaddr*>(&address), sizeof address), 0);
    const timeval limit{.tv_sec = 10, .tv_usec = 0};
    ::setsockopt(socket.raw(), SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof limit);
    return socket;
  }

  static std::string rest_of(const sys::Fd& socket) {
    const auto text = sys::read_all(socket, 64UL << 20U);
    return text.ok() ? *text : text.error().message();
  }

  std::string asked(const std::string& request) const {
    const sys::Fd socket = client();
    sys::write_all(socket, request).ignore("the server may refuse before it has read it all");
    return rest_of(socket);
  }

  /// A connection that has been upgraded.
  sys::Fd upgraded(const char* request = kGood) const {
    sys::Fd socket = client();
    EXPECT_TRUE(sys::write_all(socket, request).ok());
    std::string head;
    std::array<char, 1> byte{};
    while (!head.ends_with("\r\n\r\n") && sys::read_some(socket, byte).value() == 1) {
      head += byte[0];
    }
    EXPECT_THAT(head, StartsWith("HTTP/1.1 101 "));
    return socket;
  }

  void expect_gone() {
    EXPECT_EQ(script.gone.get_future().wait_for(std::chrono::seconds(10)),
              std::future_status::ready);
  }

  static constexpr const char* kGood =
      "POST /exec/good HTTP/1.1\r\nConnection: Upgrade\r\nUpgrade: SPDY/3.1\r\n\r\n";
  static constexpr const char* kGoodSocket =
      "GET /exec/good HTTP/1.1\r\nHost: h\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
      "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: MDEyMzQ1Njc4OWFiY2RlZg==\r\n\r\n";
  NullLogger logger;
  Script script;
  std::unique_ptr<Loop> loop = Loop::create();
  std::unique_ptr<Door> door;

 private:
  std::thread thread_;
};

TEST_F(Connections, ChangeToWhatWasAgreed) {
  script.on_bytes = [](Wire& wire, std::string_view bytes) {
    wire.send(cat("you said ", bytes));
    wire.close();
  };
  open();
  const sys::Fd socket = upgraded();
  ASSERT_TRUE(sys::write_all(socket, "hello").ok());
  EXPECT_EQ(rest_of(socket), "you said hello");
  ::shutdown(socket.raw(), SHUT_WR);
  expect_gone();
}

TEST_F(Connections, ARefusalHasAStatusAndASentence) {
  open();
  const std::string bad =
      asked("POST /exec/bad HTTP/1.1\r\nConnection: Upgrade\r\nUpgrade: SPDY/3.1\r\n\r\n");
  EXPECT_THAT(bad, StartsWith("HTTP/1.1 404 Not Found\r\n"));
  EXPECT_THAT(bad, HasSubstr("good for one request"));
  EXPECT_THAT(asked("GET /exec/good HTTP/1.1\r\n\r\n"), StartsWith("HTTP/1.1 400 "));
  EXPECT_THAT(asked("no HTTP\r\n\r\n"), StartsWith("HTTP/1.1 400 "));
}

TEST_F(Connections, NothingMayFollowTheRequestBeforeItsAnswer) {
  open();
  EXPECT_THAT(asked(std::string(kGood) + "early"), StartsWith("HTTP/1.1 400 "));
  EXPECT_THAT(asked("POST /exec/good HTTP/1.1\r\nConnection: Upgrade\r\nUpgrade: SPDY/3.1\r\n"
                    "Content-Length: 5\r\n\r\nhello"),
              StartsWith("HTTP/1.1 400 "));
}

TEST_F(Connections, AHeadThatIsTooLongIsRefused) {
  open();
  EXPECT_THAT(asked("GET /" + std::string(20'000, 'x') + " HTTP/1.1\r\n\r\n"),
              StartsWith("HTTP/1.1 431 "));
}

TEST_F(Connections, WhoSaysNothingIsNotWaitedForForEver) {
  open({.request_ms = 50});
  EXPECT_EQ(rest_of(client()), "");
}

TEST_F(Connections, AreLimitedInNumber) {
  open({.max_connections = 1});
  const sys::Fd first = upgraded();
  EXPECT_THAT(asked(kGood), StartsWith("HTTP/1.1 503 "));
  loop->post([this] { door->close(); });
  expect_gone();
}

TEST_F(Connections, WhoAsksForNothingShutsNobodyOut) {
  script.on_start = [](Wire& wire) { wire.send("!"); };
  open({.max_guests = 3, .request_ms = 60'000});
  std::vector<sys::Fd> silent;
  for (int i = 0; i < 10; ++i) silent.push_back(client());
  const sys::Fd session = upgraded();
  std::array<char, 1> started{};
  ASSERT_EQ(sys::read_some(session, started).value_or(0), 1U);
  EXPECT_EQ(rest_of(silent.front()), "") << "the oldest has made room";
  loop->post([this] { door->close(); });
  expect_gone();
}

TEST_F(Connections, OnesThatAreIdleEnd) {
  open({.limits = {.idle_ms = 50}});
  EXPECT_EQ(rest_of(upgraded()), "");
  expect_gone();
}

TEST_F(Connections, EverythingIsSentBeforeTheGoodbyeThoughTheClientSpeaksOn) {
  script.on_start = [](Wire& wire) {
    wire.send(std::string(1UL << 20U, 'x'));
    wire.close();
  };
  open();
  const sys::Fd socket = upgraded();
  sys::write_all(socket, std::string(100'000, 'y')).ignore("nobody has to read it");
  EXPECT_EQ(rest_of(socket).size(), 1UL << 20U);
}

TEST_F(Connections, AClientThatDoesNotReadIsLeftAtTheLimit) {
  script.on_bytes = [](Wire& wire, std::string_view) {
    for (int i = 0; i < 64; ++i) wire.send(std::string(256UL << 10U, 'x'));
    EXPECT_TRUE(wire.is_full());
  };
  open();
  const sys::Fd socket = upgraded();
  ASSERT_TRUE(sys::write_all(socket, "go").ok());
  expect_gone();
}

TEST_F(Connections, RoomIsToldWhenTheClientHasRead) {
  std::promise<void> room;
  script.on_start = [](Wire& wire) {
    while (!wire.is_full()) wire.send(std::string(64UL << 10U, 'x'));
  };
  script.on_room = [&](Wire& wire) {
    EXPECT_FALSE(wire.is_full());
    room.set_value();
    wire.close();
  };
  open();
  const sys::Fd socket = upgraded();
  EXPECT_GT(rest_of(socket).size(), 256UL << 10U);
  EXPECT_EQ(room.get_future().wait_for(std::chrono::seconds(10)), std::future_status::ready);
}

TEST_F(Connections, AClientThatGoesWhileItIsHeldBackIsNoticed) {
  script.on_bytes = [](Wire& wire, std::string_view) { wire.pause_reading(); };
  open();
  sys::Fd socket = upgraded();
  ASSERT_TRUE(sys::write_all(socket, "first").ok());
  std::this_thread::sleep_for(std::chrono::milliseconds(50));
  ASSERT_TRUE(sys::write_all(socket, "unread").ok());
  socket.reset();
  expect_gone();
}

TEST_F(Connections, AClientThatBreaksTheProtocolDuringTheGoodbyeIsForgotten) {
  script.on_bytes = [](Wire& wire, std::string_view) { wire.close(); };
  open({.limits = {.goodbye_ms = 50}});
  const sys::Fd socket = upgraded(kGoodSocket);
  // A whole message, and right behind it a frame that there is not.
  const std::string no_mask(4, '\0');
  ASSERT_TRUE(sys::write_all(socket, "\x82\x81" + no_mask + "x\x83\x81" + no_mask + "y").ok());
  expect_gone();
  const auto connections = [this] {
    std::promise<size_t> count;
    loop->post([&] { count.set_value(door->connections()); });
    return count.get_future().get();
  };
  const auto end = std::chrono::steady_clock::now() + std::chrono::seconds(10);
  while (connections() != 0 && std::chrono::steady_clock::now() < end) std::this_thread::yield();
  EXPECT_EQ(connections(), 0U);
}

TEST_F(Connections, OtherLimitsAreForThoseThatComeAfter) {
  DoorOptions options;
  options.max_connections = 1;
  open(options);
  const sys::Fd first = upgraded();
  EXPECT_THAT(asked(kGood), StartsWith("HTTP/1.1 503 "));
  options.max_connections = 2;
  std::promise<void> changed;
  loop->post([&] {
    door->change(options, nullptr);
    changed.set_value();
  });
  changed.get_future().wait();
  const sys::Fd second = upgraded();
  loop->post([this] { door->close(); });
  expect_gone();
}

}  // namespace
}  // namespace fluyt::streaming
