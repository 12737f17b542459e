#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/socket.h>

#include <thread>

#include "guest/fs/memfs.h"
#include "guest/fs/special.h"
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

}  // namespace
}  // namespace fluyt::guest
