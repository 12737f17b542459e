#include "network/turns.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <atomic>
#include <optional>
#include <thread>
#include <vector>

namespace fluyt::network {
namespace {

constexpr int64_t kNeverSlowMs = 3'600'000;

TEST(Turns, NoMoreThanThatManyAreHeldAtOnce) {
  Turns turns(2, kNeverSlowMs);
  std::atomic<int> held = 0;
  std::atomic<int> most = 0;
  std::atomic<int> done = 0;
  std::vector<std::thread> threads;
  threads.reserve(20);
  for (int i = 0; i < 20; ++i) {
    threads.emplace_back([&] {
      const auto turn = turns.take(Deadline::after_ms(20'000));
      const int now = ++held;
      for (int before = most; before < now && !most.compare_exchange_weak(before, now);) {
      }
      std::this_thread::sleep_for(std::chrono::milliseconds(5));
      --held;
      if (turn.ok()) ++done;
    });
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(done, 20);
  EXPECT_EQ(most, 2);
}

TEST(Turns, OneWhoseTurnDoesNotComeIsToldAndNobodyWaitsBehindIt) {
  Turns turns(1, kNeverSlowMs);
  auto first = std::make_optional(turns.take(Deadline::never()));
  ASSERT_TRUE((*first).ok());
  const auto late = turns.take(Deadline::after_ms(20));
  ASSERT_FALSE(late.ok());
  EXPECT_EQ(late.error().code(), Code::kDeadlineExceeded);
  first.reset();
  EXPECT_TRUE(turns.take(Deadline::after_ms(0)).ok());
}

TEST(Turns, WhatIsSlowGivesItsPlaceAway) {
  Turns turns(1, 50);
  const auto slow = turns.take(Deadline::never());
  const int64_t began_ns = now_boot_ns();
  const auto next = turns.take(Deadline::after_ms(20'000));
  EXPECT_TRUE(next.ok());
  const int64_t waited_ms = (now_boot_ns() - began_ns) / 1'000'000;
  EXPECT_GE(waited_ms, 40);
  EXPECT_LT(waited_ms, 10'000);
}

}  // namespace
}  // namespace fluyt::network
