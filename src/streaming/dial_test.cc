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
