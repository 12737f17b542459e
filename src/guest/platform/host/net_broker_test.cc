#include "guest/platform/host/net_broker.h"

#include <arpa/inet.h>
#include <gtest/gtest.h>
#include <netinet/in.h>
#include <poll.h>
#include <sys/socket.h>

#include <algorithm>
#include <cstring>
#include <string>

namespace fluyt::guest::host {
namespace {

NetAddress v4(const char* text, uint16_t port) {
  sockaddr_in raw{};
  raw.sin_family = AF_INET;
  raw.sin_port = htons(port);
  EXPECT_EQ(inet_pton(AF_INET, text, &raw.sin_addr), 1) << text;
  NetAddress out;
  std::memcpy(out.bytes.data(), &raw, sizeof raw);
  out.length = sizeof raw;
  return out;
}
NetAddress v6(const char* text, uint16_t port) {
  sockaddr_in6 raw{};
  raw.sin6_family = AF_INET6;
  raw.sin6_port = htons(port);
  EXPECT_EQ(inet_pton(AF_INET6, text, &raw.sin6_addr), 1) << text;
  NetAddress out;
  std::memcpy(out.bytes.data(), &raw, sizeof raw);
  out.length = sizeof raw;
  return out;
}
NetRequest connect_to(const NetAddress& remote) {
  return {NetRequest::kConnect, SOCK_STREAM, 0, 0, 0, {}, remote};
}
NetRequest listen_at(const NetAddress& local) {
  return {NetRequest::kListen, SOCK_STREAM, 0, 0, 5, local, {}};
}

TEST(NetBrokerRules, TheHostsLoopbackIsOutOfReach) {
  for (const char* text : {"127.0.0.1", "127.1.2.3", "0.0.0.0"})
    EXPECT_EQ(refusal(connect_to(v4(text, 80))), ENETUNREACH) << text;
  for (const char* text : {"::1", "::", "::ffff:127.0.0.1", "::ffff:0.0.0.0", "::127.0.0.1"})
    EXPECT_EQ(refusal(connect_to(v6(text, 80))), ENETUNREACH) << text;
  for (const char* text : {"127.0.0.1", "127.255.255.255"})
    EXPECT_EQ(refusal(listen_at(v4(text, 80))), EADDRNOTAVAIL) << text;
  for (const char* text : {"::1", "::ffff:127.0.0.1"})
    EXPECT_EQ(refusal(listen_at(v6(text, 80))), EADDRNOTAVAIL) << text;
  EXPECT_EQ(refusal(connect_to(v4("192.0.2.1", 80))), 0);
  EXPECT_EQ(refusal(connect_to(v4("127.0.0.1", 80)), HostLoopback::kOurs), 0);
  EXPECT_EQ(refusal(listen_at(v6("::1", 80)), HostLoopback::kOurs), 0);
  EXPECT_EQ(refusal(connect_to(v4("0.0.0.0", 80)), HostLoopback::kOurs), ENETUNREACH);
  EXPECT_EQ(refusal(connect_to(v6("2001:db8::1", 80))), 0);
  EXPECT_EQ(refusal(connect_to(v6("::ffff:192.0.2.1", 80))), 0);
  EXPECT_EQ(refusal(listen_at(v4("0.0.0.0", 80))), 0);
  EXPECT_EQ(refusal(listen_at(v6("::", 80))), 0);
}

TEST(NetBrokerRules, WhatIsNotOnTheListIsRefused) {
  NetRequest request = connect_to(v4("192.0.2.1", 80));
  request.type = SOCK_RAW;
  EXPECT_EQ(refusal(request), EPROTONOSUPPORT);
  request = connect_to(v4("192.0.2.1", 80));
  request.op = 9;
  EXPECT_EQ(refusal(request), EINVAL);
  request.op = NetRequest::kConnect;
  request.remote.length = 15;
  EXPECT_EQ(refusal(request), EINVAL);
  request.remote.length = 5000;
  EXPECT_EQ(refusal(request), EINVAL);
  request.remote = v4("192.0.2.1", 80);
  const uint16_t unix_family = AF_UNIX;
  std::memcpy(request.remote.bytes.data(), &unix_family, sizeof unix_family);
  EXPECT_EQ(refusal(request), EINVAL);
  request = connect_to(v4("192.0.2.1", 80));
  request.local = v6("::", 0);
  EXPECT_EQ(refusal(request), EINVAL);
  request = listen_at(v4("0.0.0.0", 80));
  request.type = SOCK_DGRAM;
  EXPECT_EQ(refusal(request), EINVAL);
  request = listen_at(v4("0.0.0.0", 80));
  request.local = {};
  EXPECT_EQ(refusal(request), EINVAL);
}

TEST(NetBrokerRules, EchoRequestsGoOutFromAnywhereOnly) {
  NetRequest request{NetRequest::kBind, SOCK_DGRAM, IPPROTO_ICMP, 0, 0, v4("0.0.0.0", 0), {}};
  EXPECT_EQ(refusal(request), 0);
  request.protocol = IPPROTO_ICMPV6;
  EXPECT_EQ(refusal(request), EPROTONOSUPPORT);
  request.local = v6("::", 0);
  EXPECT_EQ(refusal(request), 0);
  request.local = v6("::1", 0);
  EXPECT_EQ(refusal(request), EADDRNOTAVAIL);
  request.local = {};
  EXPECT_EQ(refusal(request), EPROTONOSUPPORT);
  request = connect_to(v4("192.0.2.1", 80));
  for (const uint32_t protocol : {1U, 6U, 17U, 255U}) {
    request.protocol = protocol;
    EXPECT_EQ(refusal(request), EPROTONOSUPPORT) << protocol;
  }
}

TEST(NetBroker, ControlMessagesGoOutAndComeIn) {
  auto started = NetBroker::start(HostLoopback::kOurs);
  ASSERT_TRUE(started.ok()) << started.error().message();
  const NetRequest ask{NetRequest::kBind, SOCK_DGRAM, 0, 0, 0, v4("127.0.0.1", 0), {}};
  ErrnoOr<sys::Fd> server = (*started)->make(ask);
  ErrnoOr<sys::Fd> client = (*started)->make(ask);
  ASSERT_TRUE(server.ok() && client.ok());
  EXPECT_TRUE(net_set_option(*server, IPPROTO_IP, IP_RECVTTL, 1).ok());
  ErrnoOr<NetAddress> name = net_name(*server);
  ASSERT_TRUE(name.ok());
  const std::byte byte{7};
  const std::vector<ControlMessage> control = {ControlMessage::of(IPPROTO_IP, IP_TTL, 5),
                                               ControlMessage::of(SOL_SOCKET, SCM_RIGHTS, 0)};
  ASSERT_TRUE(net_send(*client, std::span(&byte, 1), &*name, control).ok());
  pollfd entry{server->raw(), POLLIN, 0};
  ASSERT_EQ(poll(&entry, 1, 5000), 1);
  std::byte got{};
  ErrnoOr<NetReceived> received =
      net_receive(*server, std::span(&got, 1), false, Details::kControl);
  ASSERT_TRUE(received.ok());
  ASSERT_EQ(received->control.size(), 1U);
  EXPECT_EQ(received->control[0].type, IP_TTL);
  EXPECT_EQ(received->control[0].data, ControlMessage::of(0, 0, 5).data);
}

TEST(NetBroker, GivesSocketsThatDoNotBlock) {
  auto started = NetBroker::start();
  ASSERT_TRUE(started.ok()) << started.error().message();
  NetBroker& broker = **started;
  EXPECT_EQ(broker.make(connect_to(v4("127.0.0.1", 80))).error(), Errno(ENETUNREACH));
  NetRequest ask = listen_at(v4("0.0.0.0", 0));
  ErrnoOr<sys::Fd> listener = broker.make(ask);
  ASSERT_TRUE(listener.ok());
  NetAddress peer;
  EXPECT_EQ(net_accept(*listener, &peer).error(), Errno(EAGAIN));
  ErrnoOr<NetAddress> name = net_name(*listener);
  ASSERT_TRUE(name.ok());
  sockaddr_in raw{};
  std::memcpy(&raw, name->bytes.data(), sizeof raw);
  EXPECT_NE(raw.sin_port, 0);
  // The port is taken now.
  ask.local = *name;
  EXPECT_EQ(broker.make(ask).error(), Errno(EADDRINUSE));
  // The host's own loopback reaches what listens to all.
  const sys::Fd client(socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
  raw.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  ASSERT_EQ(connect(client.raw(), reinterpret_cast<const sockaddr*>(&raw), sizeof raw), 0);
  pollfd entry{listener->raw(), POLLIN, 0};
  ASSERT_EQ(poll(&entry, 1, 5000), 1);
  ErrnoOr<sys::Fd> server = net_accept(*listener, &peer);
  ASSERT_TRUE(server.ok());
  std::byte byte{7};
  EXPECT_EQ(net_receive(*server, std::span(&byte, 1), false).error(), Errno(EAGAIN));
  EXPECT_TRUE(net_send(*server, std::span(&byte, 1), nullptr).ok());
  std::byte got{};
  EXPECT_EQ(recv(client.raw(), &got, 1, 0), 1);
  EXPECT_EQ(got, std::byte{7});
}

TEST(NetBroker, SeesTheNamespacesDevices) {
  const auto view = look_at_network();
  ASSERT_TRUE(view.ok()) << view.error().message();
  const auto lo = std::find_if(view->devices.begin(), view->devices.end(),
                               [](const NetDevice& device) { return device.name == "lo"; });
  ASSERT_NE(lo, view->devices.end());
  EXPECT_EQ(lo->index, 1);
}

}  // namespace
}  // namespace fluyt::guest::host
