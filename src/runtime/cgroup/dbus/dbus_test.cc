#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/socket.h>

#include <thread>

#include "base/strings.h"
#include "runtime/cgroup/dbus/connection.h"
#include "runtime/cgroup/dbus/message.h"
#include "sys/file.h"
#include "sys/socket.h"

namespace fluyt::dbus {
namespace {

using ::testing::HasSubstr;

Message sample() {
  Message call;
  call.kind = Kind::kCall;
  call.serial = 7;
  call.path = "/org/freedesktop/systemd1";
  call.interface = "org.freedesktop.systemd1.Manager";
  call.member = "StopUnit";
  call.destination = "org.freedesktop.systemd1";
  call.signature = "ss";
  Writer body;
  body.string("a.scope");
  body.string("replace");
  call.body = body.take();
  return call;
}

// The layout in the D-Bus specification, byte by byte: a call of Ping on "/" with serial 1.
TEST(Message, EncodesAsTheSpecificationSays) {
  Message call;
  call.serial = 1;
  call.path = "/";
  call.member = "Ping";
  const std::string bytes = encode(call);
  EXPECT_EQ(to_hex(bytes),
            "6c010001"
            "00000000"
            "01000000"
            "1d000000"
            "01016f00"
            "01000000"
            "2f000000"
            "00000000"  // path, then padding to 8
            "03017300"
            "04000000"
            "50696e67"
            "00000000");
}

TEST(Message, ComesBackAsItWent) {
  std::string buffer = encode(sample()) + encode(sample());
  for (int i = 0; i < 2; ++i) {
    auto message = take_message(buffer);
    ASSERT_TRUE(message.ok()) << message.error().message();
    ASSERT_TRUE(*message);
    EXPECT_EQ(**message, sample());
  }
  EXPECT_EQ(buffer, "");
}

TEST(Message, IsNotTakenBeforeItIsWhole) {
  const std::string whole = encode(sample());
  for (size_t size = 0; size < whole.size(); ++size) {
    std::string buffer = whole.substr(0, size);
    auto message = take_message(buffer);
    ASSERT_TRUE(message.ok()) << size << ": " << message.error().message();
    EXPECT_FALSE(*message);
    EXPECT_EQ(buffer.size(), size);
  }
}

TEST(Message, OfAnyPropertyTypeIsReadBack) {
  const std::vector<Value> values{true,
                                  int32_t{-5},
                                  uint32_t{5},
                                  int64_t{-6},
                                  uint64_t{6},
                                  2.5,
                                  std::string("text"),
                                  std::vector<uint8_t>{1, 2, 3},
                                  std::vector<uint32_t>{4, 5},
                                  std::vector<std::string>{"a", "b"},
                                  Pairs{{"/dev/null", "rwm"}, {"char-pts", "rw"}},
                                  Pairs{}};
  for (const Value& value : values) {
    Message reply;
    reply.kind = Kind::kReply;
    reply.serial = 1;
    reply.reply_serial = 2;
    reply.signature = "v";
    Writer body;
    write_variant(body, value);
    reply.body = body.take();
    std::string buffer = encode(reply);
    auto back = take_message(buffer);
    ASSERT_TRUE(back.ok()) << signature_of(value) << ": " << back.error().message();
    EXPECT_EQ((*back)->body, reply.body);
  }
}

struct Change {
  const char* what;
  void (*change)(std::string&);
};

TEST(Message, RefusesWhatIsNoMessage) {
  const std::vector<Change> changes{
      {"big-endian", [](std::string& b) { b[0] = 'B'; }},
      {"kind 0", [](std::string& b) { b[1] = 0; }},
      {"kind 9", [](std::string& b) { b[1] = 9; }},
      {"version 2", [](std::string& b) { b[3] = 2; }},
      {"serial 0", [](std::string& b) { b[8] = 0; }},
      {"endless", [](std::string& b) { b[7] = 0x7F; }},
      {"fields longer than the message",
       [](std::string& b) { b[12] = static_cast<char>(b[12] - 3); }},
      {"zero in a string", [](std::string& b) { b[b.find("StopUnit") + 2] = 0; }},
      {"no UTF-8", [](std::string& b) { b[b.find("StopUnit") + 2] = static_cast<char>(0xFF); }},
      {"path", [](std::string& b) { b[b.find("/org") + 1] = '.'; }},
      {"body of another type", [](std::string& b) { b[b.find("ss") + 1] = 't'; }},
      {"padding",
       [](std::string& b) { b[b.find("/org") + sizeof "/org/freedesktop/systemd1"] = 1; }},
  };
  for (const Change& one : changes) {
    std::string buffer = encode(sample());
    one.change(buffer);
    EXPECT_FALSE(take_message(buffer).ok()) << one.what;
  }
}

TEST(Message, ABodyThatIsLongerThanItsSignatureIsRefused) {
  Message call = sample();
  call.signature = "s";
  std::string buffer = encode(call);
  auto message = take_message(buffer);
  ASSERT_FALSE(message.ok());
  EXPECT_THAT(message.error().message(), HasSubstr("longer than its signature"));
}

TEST(Message, TooLargeIsSaidAtOnce) {
  Message call = sample();
  call.body = std::string(kMaxMessageBytes, 'x');
  std::string buffer = encode(call).substr(0, 64);
  auto message = take_message(buffer);
  ASSERT_FALSE(message.ok());
  EXPECT_EQ(message.error().code(), Code::kResourceExhausted);
}

TEST(Signature, OfTheSpecificationAlone) {
  for (const char* good : {"", "s", "a(sv)", "a{sv}", "(i(ss))", "aaai", "ssa(sv)a(sa(sv))"})
    EXPECT_TRUE(is_valid_signature(good)) << good;
  for (const char* bad : {"a", "(", ")", "()", "a{s}", "{sv}", "a{(s)v}", "z", "(s", "a{svs}"})
    EXPECT_FALSE(is_valid_signature(bad)) << bad;
  EXPECT_FALSE(is_valid_signature(std::string(40, 'a') + "y"));
}

TEST(Signature, NestedVariantsHaveABound) {
  Message reply;
  reply.kind = Kind::kReply;
  reply.serial = 1;
  reply.reply_serial = 1;
  reply.signature = "v";
  for (int i = 0; i < 40; ++i) reply.body += std::string("\1v\0", 3);
  reply.body += std::string("\1y\0x", 4);
  std::string buffer = encode(reply);
  EXPECT_FALSE(take_message(buffer).ok());
}

// The other end: reads the client's half of the authentication and then calls.
class Server {
 public:
  Server() : folder_(sys::TempDir::create().value()) {
    listener_ = sys::listen_unix(path(), SOCK_STREAM, 0600).value();
  }
  ~Server() {
    if (thread_.joinable()) thread_.join();
  }
  std::string path() const { return folder_.path() + "/socket"; }
  /// Accepts one client, says `greeting`, and answers the first call with what `answer` makes of
  /// it.
  void run(std::string greeting, std::string (*answer)(const Message&)) {
    thread_ = std::thread([this, greeting = std::move(greeting), answer] {
      const sys::Fd client = sys::accept_from(listener_).value();
      std::string input;
      while (input.find("BEGIN\r\n") == std::string::npos) {
        if (!more(client, input)) return;
      }
      heard_ = input.substr(0, input.find("BEGIN"));
      input.erase(0, input.find("BEGIN\r\n") + 7);
      sys::write_all(client, greeting).value();
      while (true) {
        auto message = take_message(input).value();
        if (message) {
          sys::write_all(client, answer(*message)).ignore("the client may be gone");
          return;
        }
        if (!more(client, input)) return;
      }
    });
  }
  const std::string& heard() {
    thread_.join();
    return heard_;
  }

 private:
  static bool more(sys::FdRef client, std::string& input) {
    std::array<char, 4096> buffer;
    const auto got = sys::read_some(client, buffer);
    if (!got.ok() || *got == 0) return false;
    input.append(buffer.data(), *got);
    return true;
  }
  sys::TempDir folder_;
  sys::Fd listener_;
  std::thread thread_;
  std::string heard_;
};

Message reply_to(const Message& call) {
  Message reply;
  reply.kind = Kind::kReply;
  reply.serial = 100;
  reply.reply_serial = call.serial;
  return reply;
}

Message job_removed(uint32_t id) {
  Message signal;
  signal.kind = Kind::kSignal;
  signal.serial = 50 + id;
  signal.path = "/x";
  signal.interface = "org.freedesktop.systemd1.Manager";
  signal.member = "JobRemoved";
  signal.signature = "u";
  Writer body;
  body.u32(id);
  signal.body = body.take();
  return signal;
}

Deadline soon() { return Deadline::after_ms(5000); }

TEST(Connection, AuthenticatesAndKeepsSignalsThatComeBeforeTheReply) {
  Server server;
  server.run("OK 0123\r\n", [](const Message& call) {
    Message other = job_removed(9);
    other.member = "UnitNew";
    return encode(other) + encode(job_removed(1)) + encode(reply_to(call)) + encode(job_removed(2));
  });
  auto connection = Connection::open({.path = server.path()}, soon());
  ASSERT_TRUE(connection.ok()) << connection.error().message();
  ASSERT_TRUE(connection->match("org.freedesktop.systemd1.Manager", "JobRemoved", soon()).ok());
  auto reply = connection->call(sample(), soon());
  ASSERT_TRUE(reply.ok()) << reply.error().message();
  for (const uint32_t id : {1U, 2U}) {
    auto signal = connection->next_signal(soon());
    ASSERT_TRUE(signal.ok()) << signal.error().message();
    EXPECT_EQ(Reader(signal->body).u32().value(), id);
  }
  EXPECT_EQ(server.heard(),
            std::string(1, '\0') + "AUTH EXTERNAL " + to_hex(std::to_string(geteuid())) + "\r\n");
}

TEST(Connection, LeavesItsNumberOutWhereItIsAnothersThere) {
  Server server;
  server.run("DATA\r\nOK 0123\r\n", [](const Message& call) { return encode(reply_to(call)); });
  auto connection =
      Connection::open({.path = server.path(), .identity = Endpoint::Identity::kBySocket}, soon());
  ASSERT_TRUE(connection.ok()) << connection.error().message();
  auto reply = connection->call(sample(), soon());
  ASSERT_TRUE(reply.ok()) << reply.error().message();
  EXPECT_EQ(server.heard(), std::string(1, '\0') + "AUTH EXTERNAL\r\nDATA\r\n");
}

TEST(Connection, TellsAnErrorByNameAndText) {
  Server server;
  server.run("OK 0123\r\n", [](const Message& call) {
    Message error = reply_to(call);
    error.kind = Kind::kError;
    error.error_name = "org.freedesktop.systemd1.NoSuchUnit";
    error.signature = "s";
    Writer body;
    body.string("Unit a.scope not loaded.");
    error.body = body.take();
    return encode(error);
  });
  auto connection = Connection::open({.path = server.path()}, soon());
  ASSERT_TRUE(connection.ok()) << connection.error().message();
  auto reply = connection->call(sample(), soon());
  ASSERT_FALSE(reply.ok());
  EXPECT_EQ(reply.error().code(), Code::kNotFound);
  EXPECT_THAT(reply.error().message(), HasSubstr("Unit a.scope not loaded."));
}

TEST(Connection, RefusedAuthenticationIsNoConnection) {
  Server server;
  server.run("REJECTED EXTERNAL\r\n", [](const Message&) { return std::string(); });
  auto connection = Connection::open({.path = server.path()}, soon());
  ASSERT_FALSE(connection.ok());
  EXPECT_EQ(connection.error().code(), Code::kPermissionDenied);
  EXPECT_THAT(connection.error().message(), HasSubstr("REJECTED"));
}

TEST(Connection, WaitsNoLongerThanItsDeadline) {
  Server server;
  server.run("", [](const Message&) { return std::string(); });
  auto connection = Connection::open({.path = server.path()}, Deadline::after_ms(50));
  ASSERT_FALSE(connection.ok());
  EXPECT_EQ(connection.error().code(), Code::kDeadlineExceeded);
}

TEST(Connection, NobodyThereIsSaid) {
  auto connection = Connection::open({.path = "/nonexistent/socket"}, soon());
  ASSERT_FALSE(connection.ok());
  EXPECT_THAT(connection.error().message(), HasSubstr("/nonexistent/socket"));
}

}  // namespace
}  // namespace fluyt::dbus
