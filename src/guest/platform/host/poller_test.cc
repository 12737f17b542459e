#include "guest/platform/host/poller.h"

#include <gtest/gtest.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <array>

namespace fluyt::guest::host {
namespace {

/// Hears what a queue is woken with.
class Ear final : public Waiter {
 public:
  void wake(uint32_t events, Wakes& wakes) override {
    heard |= events;
    sleeper.wake(wakes);
  }
  bool hears(uint32_t event) {
    const Deadline deadline = Clock::now() + std::chrono::seconds(30);
    while ((heard.load() & event) == 0)
      if (sleeper.sleep(deadline) == Sleeper::Outcome::kTimedOut) return false;
    return true;
  }
  std::atomic<uint32_t> heard{0};
  Sleeper sleeper;
};

class PollerTest : public testing::Test {
 protected:
  void SetUp() override {
    int ends[2];
    ASSERT_EQ(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, ends), 0);
    own_ = sys::Fd(ends[0]);
    other_ = sys::Fd(ends[1]);
    // There is no room.
    while (write(own_.raw(), bytes_.data(), bytes_.size()) > 0) continue;
  }
  void TearDown() override { poller_.forget(own_); }

  sys::Fd own_;
  sys::Fd other_;
  std::array<char, 4096> bytes_{};
  WaitQueue queue_;
  Ear ear_;
  WaitQueue::Entry entry_{queue_, ear_};
  Poller poller_;
};

TEST_F(PollerTest, WhoWaitsForRoomLeavesWhoWaitsForBytes) {
  poller_.watch(own_, POLLIN, queue_);
  poller_.watch(own_, POLLOUT, queue_);
  ASSERT_EQ(write(other_.raw(), "x", 1), 1);
  EXPECT_TRUE(ear_.hears(POLLIN));
}

TEST_F(PollerTest, WhatCameIsNotTheEndOfWhatIsWaitedFor) {
  poller_.watch(own_, POLLIN, queue_);
  poller_.watch(own_, POLLOUT, queue_);
  ASSERT_EQ(write(other_.raw(), "x", 1), 1);
  ASSERT_TRUE(ear_.hears(POLLIN));
  EXPECT_EQ(ear_.heard.load() & POLLOUT, 0U);
  while (read(other_.raw(), bytes_.data(), bytes_.size()) > 0) continue;
  EXPECT_TRUE(ear_.hears(POLLOUT));
}

}  // namespace
}  // namespace fluyt::guest::host
