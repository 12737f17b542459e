#include "streaming/dial.h"

#include <arpa/inet.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <netinet/in.h>
#include <sched.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <array>
#include <future>
#include <thread>

#include "base/strings.h"
#include "sys/clone.h"
#include "sys/file.h"
#include "sys/socket.h"

namespace fluyt::streaming {
namespace {

using testing::HasSubstr;

struct Listener {
  sys::Fd socket;
  uint16_t port = 0;
};

/// On a free port of 127.0.0.1 or ::1; without a socket where there is no such address.
Listener listen_on(int family) {
  Listener listener{sys::Fd(::socket(family, SOCK_STREAM | SOCK_CLOEXEC, 0))};
  sockaddr_in four{};
  four.sin_family = AF_INET;
  four.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  sockaddr_in6 six{};
  six.sin6_family = AF_INET6;
  six.sin6_addr = in6addr_loopback;
  auto* address =
      family == AF_INET ? reinterpret_cast<sockaddr*>(&four) : reinterpret_cast<sockaddr*>(&six);
  socklen_t size = family == AF_INET ? sizeof four : sizeof six;
  if (::bind(listener.socket.raw(), address, size) != 0 ||
      ::listen(listener.socket.raw(), 4) != 0) {
    return {};
  }
  ::getsockname(listener.socket.raw(), address, &size);
  listener.port = ntohs(family == AF_INET ? four.sin_port : six.sin6_port);
  return listener;
}

/// Runs a loop until the dial has ended.
Result<sys::Fd> dial(const std::string& netns, uint16_t port, int64_t ms = Dial::kConnectMs) {
  DialSockets sockets = FLUYT_TRY(open_dial_sockets(netns));
  const auto loop = Loop::create();
  std::optional<Result<sys::Fd>> outcome;
  std::unique_ptr<Dial> dial;
  dial = Dial::begin(
      *loop, std::move(sockets), port,
      [&](Result<sys::Fd> result) {
        outcome.emplace(std::move(result));
        dial.reset();  // as its owner may
        loop->stop();
      },
      ms);
  EXPECT_FALSE(outcome) << "not from within begin()";
  loop->run();
  return std::move(*outcome);
}

void expect_connected(const Listener& listener, const sys::Fd& socket) {
  const sys::Fd other = *sys::accept_from(listener.socket);
  ASSERT_TRUE(sys::write_all(socket, "hello").ok());
  std::array<char, 16> buffer{};
  EXPECT_EQ(sys::read_some(other, buffer).value(), 5U);
}

TEST(Dial, ReachesIp4Loopback) {
  const Listener listener = listen_on(AF_INET);
  ASSERT_TRUE(listener.socket.valid());
  const auto socket = dial("", listener.port);
  ASSERT_TRUE(socket.ok()) << socket.error().message();
  expect_connected(listener, *socket);
}

TEST(Dial, ReachesIp6LoopbackWhereIp4Refuses) {
  const Listener listener = listen_on(AF_INET6);
  if (!listener.socket.valid()) GTEST_SKIP() << "there is no ::1 here";
  const auto socket = dial("", listener.port);
  ASSERT_TRUE(socket.ok()) << socket.error().message();
  expect_connected(listener, *socket);
}

TEST(Dial, SaysWhatIp4Said) {
  Listener listener = listen_on(AF_INET);
  listener.socket.reset();
  const auto socket = dial("", listener.port);
  ASSERT_FALSE(socket.ok());
  EXPECT_THAT(socket.error().message(),
              HasSubstr(cat("connect(127.0.0.1:", listener.port, ") = ECONNREFUSED")));
}

TEST(Dial, AServerThatDoesNotAnswerKeepsNobodyButWhoAsked) {
  const Listener deaf = listen_on(AF_INET);
  const Listener good = listen_on(AF_INET);
  // Its queue is full: what comes now is not answered at all.
  std::vector<sys::Fd> queued;
  for (int i = 0; i < 32; ++i) {
    queued.push_back(std::move(open_dial_sockets("")->ip4));
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_port = htons(deaf.port);
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    (void)::connect(queued.back().raw(), reinterpret_cast<sockaddr*>(&address), sizeof address);
  }
  const auto loop = Loop::create();
  std::vector<std::string> order;
  std::vector<std::unique_ptr<Dial>> dials;
  for (int i = 0; i < 3; ++i) {
    dials.push_back(Dial::begin(
        *loop, *open_dial_sockets(""), deaf.port,
        [&](const Result<sys::Fd>& result) {
          ASSERT_FALSE(result.ok());
          EXPECT_EQ(result.error().code(), Code::kDeadlineExceeded) << result.error().message();
          order.emplace_back("late");
          if (order.size() == 4) loop->stop();
        },
        300));
  }
  dials.push_back(
      Dial::begin(*loop, *open_dial_sockets(""), good.port, [&](const Result<sys::Fd>& result) {
        EXPECT_TRUE(result.ok());
        order.emplace_back("good");
      }));
  loop->run();
  EXPECT_EQ(order, (std::vector<std::string>{"good", "late", "late", "late"}));
}

TEST(Dial, EntersAnotherNetworkWithoutTakingItsCallerAlong) {
  std::promise<Listener> listening;
  std::promise<std::string> path;
  std::promise<void> done;
  std::thread host([&] {
    const bool apart = ::unshare(CLONE_NEWNET) == 0 && sys::bring_loopback_up().ok();
    path.set_value(apart ? cat("/proc/self/task/", ::syscall(SYS_gettid), "/ns/net") : "");
    listening.set_value(apart ? listen_on(AF_INET) : Listener{});
    done.get_future().wait();
  });
  const std::string netns = path.get_future().get();
  const Listener listener = listening.get_future().get();
  if (!netns.empty()) {
    const auto before = *sys::read_link(sys::kCwd, "/proc/thread-self/ns/net");
    EXPECT_FALSE(dial("", listener.port).ok());
    const auto socket = dial(netns, listener.port);
    EXPECT_TRUE(socket.ok());
    if (socket.ok()) expect_connected(listener, *socket);
    EXPECT_EQ(*sys::read_link(sys::kCwd, "/proc/thread-self/ns/net"), before);
  }
  done.set_value();
  host.join();
  if (netns.empty()) GTEST_SKIP() << "making a network namespace is not allowed here";
}

TEST(Dial, AFileThatIsNoNetworkNamespaceIsRefused) {
  EXPECT_FALSE(dial("/proc/self/ns/mnt", 80).ok());
  EXPECT_FALSE(dial("/nowhere", 80).ok());
}

}  // namespace
}  // namespace fluyt::streaming
