#include "sys/futex.h"

#include <gtest/gtest.h>

#include <thread>

namespace fluyt::sys {
namespace {

using Clock = std::chrono::steady_clock;

TEST(Futex, AnotherValueIsNotWaitedFor) {
  const std::atomic<uint32_t> word{7};
  EXPECT_TRUE(wait_on(word, 6, {}));
}

TEST(Futex, DeadlineEndsTheWait) {
  const std::atomic<uint32_t> word{7};
  const Clock::time_point until = Clock::now() + std::chrono::milliseconds(20);
  while (wait_on(word, 7, until)) {
  }
  EXPECT_GE(Clock::now(), until);
}

TEST(Futex, DeadlineBeforeTheClocksBeginningIsOver) {
  const std::atomic<uint32_t> word{7};
  EXPECT_FALSE(wait_on(word, 7, Clock::time_point::min()));
}

TEST(Futex, SleeperIsWoken) {
  std::atomic<uint32_t> word{0};
  std::thread waker([&] {
    std::this_thread::sleep_for(std::chrono::milliseconds(10));
    word = 1;
    wake_one(word);
  });
  while (word == 0) EXPECT_TRUE(wait_on(word, 0, {}));
  waker.join();
}

}  // namespace
}  // namespace fluyt::sys
