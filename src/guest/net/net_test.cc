#include <fcntl.h>
#include <gtest/gtest.h>
#include <linux/rtnetlink.h>
#include <netinet/in.h>
#include <sys/socket.h>

#include <array>
#include <cstring>
#include <random>
#include <thread>

#include "guest/fs/memfs.h"
#include "guest/fs/special.h"
#include "guest/net/netlink.h"
#include "guest/net/socket.h"

namespace fluyt::guest {
namespace {

class NetTest : public testing::Test {
 protected:
  SocketPair pair(int type = SOCK_STREAM) {
    return make_socket_pair(network_, caller_, AF_UNIX, type, 0, O_NONBLOCK).value();
  }
  Errno send(const SocketPtr& from, std::vector<FilePtr> files) {
    const std::byte byte{};
    Socket::Outgoing out;
    out.data = std::span(&byte, 1);
    out.files = std::move(files);
    return from->send(caller_, nullptr, out).error();
  }
  std::shared_ptr<Network> network_ = std::make_shared<Network>();
  Sleeper sleeper_;
  Credentials who_;
  Caller caller_{sleeper_, who_};
};

TEST_F(NetTest, SocketsThatOnlyHoldEachOtherAreCollected) {
  std::weak_ptr<File> inside;
  for (int i = 0; i < 200; ++i) {
    SocketPair one = pair();
    SocketPair other = pair();
    const PipeEnds ends = make_pipe(0);
    inside = ends.reader;
    EXPECT_TRUE(send(one.first, {other.second, ends.reader}).ok());
    EXPECT_TRUE(send(other.first, {one.second}).ok());
    EXPECT_TRUE(send(one.second, {one.first}).ok());
  }
  EXPECT_EQ(network_->rights.in_flight(), 800U);
  network_->rights.collect();
  EXPECT_EQ(network_->rights.in_flight(), 0U);
  EXPECT_TRUE(inside.expired());
  EXPECT_EQ(network_->count(), 0U);
}

TEST_F(NetTest, AFullNetlinkSocketIsToldAllTheSame) {
  const SocketPtr socket = make_netlink_socket(network_, SOCK_RAW, 0, O_NONBLOCK).value();
  nlmsghdr asked{};
  asked.nlmsg_len = sizeof asked;
  asked.nlmsg_type = RTM_NEWLINK;  // refused, in an answer
  Socket::Outgoing out;
  out.data = std::as_bytes(std::span(&asked, 1));
  int answers = 0;
  while (socket->send(caller_, nullptr, out).ok()) ++answers;
  EXPECT_GT(answers, 0);
  EXPECT_TRUE(tell_netlink(*socket, std::vector<std::byte>(32, std::byte{7})).ok());
  std::array<std::byte, 64> text{};
  for (; answers > 0; --answers) ASSERT_TRUE(socket->receive(caller_, text, 0).ok());
  ASSERT_TRUE(socket->receive(caller_, text, 0).ok());
  EXPECT_EQ(text[31], std::byte{7});
  EXPECT_EQ(socket->receive(caller_, text, 0).error().value(), EAGAIN);
}

TEST_F(NetTest, WhatCanBeReceivedIsKept) {
  const SocketPair outer = pair();
  for (int i = 0; i < 100; ++i) {
    SocketPair one = pair();
    EXPECT_TRUE(send(one.first, {one.second}).ok());
    EXPECT_TRUE(send(outer.first, {one.second}).ok());
  }
  network_->rights.collect();
  EXPECT_EQ(network_->rights.in_flight(), 200U);
  std::byte byte{};
  for (int i = 0; i < 100; ++i) {
    ErrnoOr<Socket::Incoming> got = outer.second->receive(caller_, std::span(&byte, 1), 0);
    ASSERT_TRUE(got.ok());
    ASSERT_EQ(got->files.size(), 1U);
    auto* inner = static_cast<Socket*>(got->files[0].get());
    EXPECT_TRUE(inner->receive(caller_, std::span(&byte, 1), 0).ok());
  }
  EXPECT_EQ(network_->rights.in_flight(), 0U);
}

TEST_F(NetTest, AChainOfSocketsEndsWithoutRecursion) {
  // On a stack of a sentry's thread a destructor within a destructor would not go this deep.
  std::thread([&] {
    FilePtr last;
    for (int i = 0; i < 15000; ++i) {
      SocketPair one = pair();
      if (last) {
        EXPECT_TRUE(send(one.first, {last}).ok());
      }
      last = one.second;
    }
    last.reset();
  }).join();
  EXPECT_EQ(network_->rights.in_flight(), 0U);
  EXPECT_EQ(network_->count(), 0U);
}

TEST_F(NetTest, TooManyUnderWayAreRefused) {
  const SocketPair holder = pair();
  const PipeEnds ends = make_pipe(0);
  Errno last;
  int sent = 0;
  SocketPair at = pair();
  std::vector<SocketPair> kept;
  for (; sent < 20000; ++sent) {
    last = send(at.first, {ends.reader});
    if (last.value() == EAGAIN) {
      kept.push_back(at);
      at = pair();
      continue;
    }
    if (!last.ok()) break;
  }
  EXPECT_EQ(last, Errno(ETOOMANYREFS));
  EXPECT_EQ(network_->rights.in_flight(), 16384U);
}

TEST_F(NetTest, APortIsFreeAgainWhenItsSocketEnds) {
  const auto make = [&] {
    return make_socket(network_, caller_, AF_INET, SOCK_STREAM, 0, 0).value();
  };
  Tree tree(make_memfs(0755), "tmpfs");
  const Places places{tree, {tree.root(), tree.root(), {}}};
  const SocketAddress address = shown(Endpoint::v4(0x7f000001, 4000), AF_INET);
  SocketPtr first = make();
  SocketPtr second = make();
  EXPECT_TRUE(first->bind(caller_, places, address).ok());
  EXPECT_EQ(second->bind(caller_, places, address), Errno(EADDRINUSE));
  first.reset();
  EXPECT_TRUE(second->bind(caller_, places, address).ok());
}

/// Two datagram sockets and what passes between them.
class PacketTest : public NetTest {
 protected:
  SocketPtr udp(int family) {
    return make_socket(network_, caller_, family, SOCK_DGRAM, 0, O_NONBLOCK).value();
  }
  Errno bind(const SocketPtr& socket, const Endpoint& at) {
    return socket->bind(caller_, places_, shown(at, socket->family()));
  }
  Errno connect(const SocketPtr& socket, const Endpoint& at) {
    return socket->connect(caller_, places_, shown(at, socket->family()));
  }
  static std::vector<std::byte> bytes(int value) {
    const auto raw = std::as_bytes(std::span(&value, 1));
    return {raw.begin(), raw.end()};
  }
  Errno set(const SocketPtr& socket, int level, int option, int value) {
    return socket->set_option(caller_, level, option, bytes(value));
  }
  ErrnoOr<size_t> send_to(const SocketPtr& from, const Endpoint& at,
                          const std::vector<ControlMessage>& control = {}) {
    const SocketAddress to = shown(at, from->family());
    const std::byte data[3] = {};
    Socket::Outgoing out;
    out.data = data;
    out.to = &to;
    out.control = control;
    return from->send(caller_, &places_, out);
  }
  ErrnoOr<Socket::Incoming> receive(const SocketPtr& from) {
    return from->receive(caller_, buffer_, 0);
  }
  Tree tree_{make_memfs(0755), "tmpfs"};
  const Places places_{tree_, {tree_.root(), tree_.root(), {}}};
  std::byte buffer_[256];
  const Endpoint here_ = Endpoint::v4(INADDR_LOOPBACK, 4000);
};

TEST_F(PacketTest, WhatWasAskedForIsTold) {
  const SocketPtr server = udp(AF_INET);
  const SocketPtr client = udp(AF_INET);
  ASSERT_TRUE(bind(server, here_).ok());
  ASSERT_TRUE(send_to(client, here_).ok());
  EXPECT_TRUE(receive(server)->control.empty());
  EXPECT_TRUE(set(server, IPPROTO_IP, IP_RECVTTL, 1).ok());
  ASSERT_TRUE(send_to(client, here_, {{IPPROTO_IP, IP_TTL, bytes(9)}}).ok());
  ErrnoOr<Socket::Incoming> got = receive(server);
  ASSERT_TRUE(got.ok());
  ASSERT_EQ(got->control.size(), 1U);
  EXPECT_EQ(got->control[0].type, IP_TTL);
  EXPECT_EQ(got->control[0].data, bytes(9));
}

TEST_F(PacketTest, WrongControlMessagesSendNothing) {
  const SocketPtr server = udp(AF_INET6);
  const SocketPtr client = udp(AF_INET6);
  Endpoint at;
  at.address[15] = 1;
  at.port = 4000;
  ASSERT_TRUE(bind(server, at).ok());
  const ControlMessage wrong[] = {{IPPROTO_IPV6, IPV6_HOPLIMIT, bytes(256)},
                                  {IPPROTO_IPV6, IPV6_HOPLIMIT, {}},
                                  {IPPROTO_IPV6, IPV6_TCLASS, bytes(-2)},
                                  {IPPROTO_IPV6, IPV6_RTHDR, bytes(0)},
                                  {IPPROTO_IPV6, IPV6_HOPOPTS, bytes(0)},
                                  {IPPROTO_IPV6, IPV6_PKTINFO, bytes(1)},
                                  {IPPROTO_IPV6, IPV6_DONTFRAG, std::vector<std::byte>(8)},
                                  {IPPROTO_IPV6, 1000, std::vector<std::byte>(4096)}};
  for (const ControlMessage& one : wrong)
    EXPECT_EQ(send_to(client, at, {one}).error(), Errno(EINVAL)) << one.type;
  EXPECT_EQ(receive(server).error(), Errno(EAGAIN));
}

TEST_F(PacketTest, GroupsAreLeftWithTheSocket) {
  const Endpoint group = Endpoint::v4(0xe0010203, 4000);
  const ip_mreqn asked{{htonl(0xe0010203)}, {htonl(INADDR_LOOPBACK)}, 0};
  const auto raw = std::as_bytes(std::span(&asked, 1));
  SocketPtr one = udp(AF_INET);
  SocketPtr other = udp(AF_INET);
  EXPECT_TRUE(one->set_option(caller_, IPPROTO_IP, IP_ADD_MEMBERSHIP, raw).ok());
  EXPECT_TRUE(other->set_option(caller_, IPPROTO_IP, IP_ADD_MEMBERSHIP, raw).ok());
  EXPECT_TRUE(network_->groups.joined(group, 1));
  one.reset();
  EXPECT_TRUE(network_->groups.joined(group, 1));
  other.reset();
  EXPECT_FALSE(network_->groups.joined(group, 1));
}

TEST_F(PacketTest, AGroupsPacketReachesEveryMember) {
  const Endpoint group = Endpoint::v4(0xe0010203, 4000);
  const ip_mreqn asked{{htonl(0xe0010203)}, {htonl(INADDR_LOOPBACK)}, 0};
  std::vector<SocketPtr> members;
  for (int i = 0; i < 3; ++i) {
    members.push_back(udp(AF_INET));
    ASSERT_TRUE(set(members.back(), SOL_SOCKET, SO_REUSEADDR, 1).ok());
    ASSERT_TRUE(bind(members.back(), Endpoint::v4(INADDR_ANY, 4000)).ok());
    ASSERT_TRUE(members.back()
                    ->set_option(caller_, IPPROTO_IP, IP_ADD_MEMBERSHIP,
                                 std::as_bytes(std::span(&asked, 1)))
                    .ok());
  }
  const SocketPtr sender = udp(AF_INET);
  EXPECT_EQ(send_to(sender, group).error(), Errno(ENETUNREACH));
  ASSERT_TRUE(sender
                  ->set_option(caller_, IPPROTO_IP, IP_MULTICAST_IF,
                               std::as_bytes(std::span(&asked.imr_address, 1)))
                  .ok());
  ASSERT_TRUE(send_to(sender, group).ok());
  for (const SocketPtr& member : members) EXPECT_TRUE(receive(member).ok());
}

TEST_F(PacketTest, AConnectedSocketTakesOnlyItsPeersShare) {
  const SocketPtr open = udp(AF_INET);
  const SocketPtr connected = udp(AF_INET);
  const SocketPtr peer = udp(AF_INET);
  const SocketPtr stranger = udp(AF_INET);
  for (const SocketPtr& one : {open, connected}) {
    ASSERT_TRUE(set(one, SOL_SOCKET, SO_REUSEADDR, 1).ok());
    ASSERT_TRUE(bind(one, here_).ok());
  }
  const Endpoint at_peer = Endpoint::v4(INADDR_LOOPBACK, 4001);
  ASSERT_TRUE(bind(peer, at_peer).ok());
  ASSERT_TRUE(connect(connected, at_peer).ok());
  ASSERT_TRUE(send_to(peer, here_).ok());
  EXPECT_TRUE(receive(connected).ok());
  ASSERT_TRUE(send_to(stranger, here_).ok());
  EXPECT_EQ(receive(connected).error(), Errno(EAGAIN));
  EXPECT_TRUE(receive(open).ok());
}

TEST_F(PacketTest, SharersOfAPortKeepTheirSenders) {
  std::vector<SocketPtr> sharers;
  for (int i = 0; i < 4; ++i) {
    sharers.push_back(udp(AF_INET));
    ASSERT_TRUE(set(sharers.back(), SOL_SOCKET, SO_REUSEPORT, 1).ok());
    ASSERT_TRUE(bind(sharers.back(), here_).ok());
  }
  std::vector<size_t> shares(sharers.size());
  for (int sender = 0; sender < 64; ++sender) {
    const SocketPtr from = udp(AF_INET);
    for (int i = 0; i < 4; ++i) ASSERT_TRUE(send_to(from, here_).ok());
    for (size_t i = 0; i < sharers.size(); ++i) {
      int count = 0;
      while (receive(sharers[i]).ok()) ++count;
      EXPECT_TRUE(count == 0 || count == 4) << count;
      shares[i] += count == 0 ? 0U : 1U;
    }
  }
  for (const size_t share : shares) EXPECT_GT(share, 2U);
}

TEST_F(PacketTest, EchoRequestsAreAnswered) {
  const SocketPtr socket =
      make_socket(network_, caller_, AF_INET, SOCK_DGRAM, IPPROTO_ICMP, O_NONBLOCK).value();
  const SocketAddress to = shown(Endpoint::v4(INADDR_LOOPBACK, 0), AF_INET);
  std::vector<std::byte> request(20);
  request[0] = std::byte{8};
  Socket::Outgoing out;
  out.to = &to;
  for (size_t length = 0; length < 8; ++length) {
    out.data = std::span(request).first(length);
    EXPECT_EQ(socket->send(caller_, nullptr, out).error(), Errno(EINVAL));
  }
  out.data = request;
  ASSERT_TRUE(socket->send(caller_, nullptr, out).ok());
  ErrnoOr<Socket::Incoming> got = receive(socket);
  ASSERT_TRUE(got.ok());
  EXPECT_EQ(got->count, request.size());
  EXPECT_EQ(buffer_[0], std::byte{0});
  request[0] = std::byte{13};
  EXPECT_EQ(socket->send(caller_, nullptr, out).error(), Errno(EINVAL));
}

TEST_F(PacketTest, JunkDoesNoHarmAndIsGivenBack) {
  std::mt19937 random(7);  // NOLINT: the same each time
  const auto below = [&](unsigned limit) { return static_cast<int>(random() % limit); };
  const auto junk = [&] {
    std::vector<std::byte> out(static_cast<size_t>(below(3) == 0 ? below(200) : 4 * below(6)));
    for (std::byte& byte : out) byte = static_cast<std::byte>(below(3) == 0 ? below(256) : 0);
    constexpr uint8_t kGroup[] = {224, 1, 2, 3, 127, 0, 0, 1};
    if (out.size() >= sizeof kGroup && below(2) == 0)
      std::memcpy(out.data(), kGroup, sizeof kGroup);
    return out;
  };
  constexpr int kLevels[] = {SOL_SOCKET, IPPROTO_IP, IPPROTO_IPV6, IPPROTO_TCP, 1000};
  const Endpoint targets[] = {here_, Endpoint::v4(0xe0010203, 4000), Endpoint::v4(0x08080808, 53),
                              Endpoint::v6_any(4000)};
  std::vector<SocketPtr> sockets;
  for (int round = 0; round < 60000; ++round) {
    if (sockets.size() < 20) {
      const int family = below(2) == 0 ? AF_INET : AF_INET6;
      const int protocol = below(3) != 0 ? 0 : family == AF_INET ? 1 : 58;
      const int type = protocol != 0 || below(3) != 0 ? SOCK_DGRAM : SOCK_STREAM;
      sockets.push_back(make_socket(network_, caller_, family, type, protocol, O_NONBLOCK).value());
    }
    const auto at = static_cast<size_t>(below(static_cast<unsigned>(sockets.size())));
    const SocketPtr& socket = sockets[at];
    const int level = kLevels[below(5)];
    const int option = below(4) == 0 ? below(100000) - 50000 : below(85);
    const Endpoint& target = targets[below(4)];
    switch (below(6)) {
      case 0:
      case 1:
        socket->set_option(caller_, level, option, junk()).ignore("junk");
        break;
      case 2:
        socket->get_option(caller_, level, option).error().ignore("junk");
        break;
      case 3:
        send_to(socket, target, {{level, option, junk()}}).error().ignore("junk");
        break;
      case 4:
        receive(socket).error().ignore("nothing may be there");
        break;
      default:
        if (below(3) == 0)
          bind(socket, target).ignore("it may be taken");
        else if (below(2) == 0)
          sockets.erase(sockets.begin() + static_cast<std::ptrdiff_t>(at));
    }
  }
  sockets.clear();
  EXPECT_FALSE(network_->groups.joined(targets[1], 1));
  EXPECT_TRUE(network_->budget.charge(size_t{256} << 20).ok());
}

}  // namespace
}  // namespace fluyt::guest
