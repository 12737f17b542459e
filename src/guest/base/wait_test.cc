#include "guest/base/wait.h"

#include <gtest/gtest.h>
#include <poll.h>

#include <deque>
#include <thread>

namespace fluyt::guest {
namespace {

using std::chrono::milliseconds;
using Outcome = Sleeper::Outcome;

Deadline soon(int ms = 20) { return Clock::now() + milliseconds(ms); }
Deadline late() { return soon(30'000); }

TEST(Sleeper, AWakeBeforeTheSleepIsNotLostAndCountsOnce) {
  Sleeper sleeper;
  sleeper.wake();
  sleeper.wake();
  EXPECT_EQ(sleeper.sleep({}), Outcome::kWoken);
  EXPECT_EQ(sleeper.sleep(soon()), Outcome::kTimedOut);
}

TEST(Sleeper, AnInterruptEndsSleepsUntilItIsTakenOff) {
  Sleeper sleeper;
  sleeper.interrupt();
  EXPECT_TRUE(sleeper.interrupted());
  EXPECT_EQ(sleeper.sleep({}), Outcome::kInterrupted);
  EXPECT_EQ(sleeper.sleep({}), Outcome::kInterrupted);
  sleeper.clear_interrupt();
  EXPECT_FALSE(sleeper.interrupted());
  EXPECT_EQ(sleeper.sleep(soon()), Outcome::kTimedOut);
}

TEST(Sleeper, WhoIsInterruptedLooksOnceMoreHoweverOftenItIsWoken) {
  Sleeper sleeper;
  sleeper.interrupt();
  for (int i = 0; i < 2; ++i) {
    sleeper.wake();
    EXPECT_EQ(sleeper.sleep({}), Outcome::kWoken);
    sleeper.wake();
    EXPECT_EQ(sleeper.sleep({}), Outcome::kInterrupted);
  }
  sleeper.clear_interrupt();
  EXPECT_EQ(sleeper.sleep({}), Outcome::kWoken) << "the last wake is not lost";
}

TEST(Sleeper, DeepSleepIsDeafToInterruptsAlone) {
  Sleeper sleeper;
  sleeper.interrupt();
  EXPECT_EQ(sleeper.sleep_deeply(soon()), Outcome::kTimedOut);
  sleeper.wake();
  EXPECT_EQ(sleeper.sleep_deeply({}), Outcome::kWoken);
  EXPECT_TRUE(sleeper.interrupted());
}

TEST(Sleeper, WhoSleepsIsWokenInterruptedAndWokenFromDeepSleep) {
  Sleeper sleeper;
  for (int i = 0; i < 200; ++i) {
    std::thread other([&] {
      if (i % 2 == 0) std::this_thread::sleep_for(std::chrono::microseconds(i * 10));
      if (i % 3 == 0) return sleeper.wake();
      sleeper.interrupt();
      if (i % 3 == 2) sleeper.wake();
    });
    if (i % 3 == 0) {
      EXPECT_EQ(sleeper.sleep(late()), Outcome::kWoken);
    } else if (i % 3 == 1) {
      EXPECT_EQ(sleeper.sleep(late()), Outcome::kInterrupted);
    } else {
      EXPECT_EQ(sleeper.sleep_deeply(late()), Outcome::kWoken);
    }
    other.join();
    sleeper.clear_interrupt();
  }
}

TEST(Sleeper, NoWakeIsLostBetweenTwoThatWakeEachOther) {
  constexpr int kTurns = 20'000;
  Sleeper beds[2];
  std::atomic<int> turn{0};
  const auto play = [&](int self) {
    for (int i = 0; i < kTurns; ++i) {
      while (turn.load() % 2 != self)
        if (beds[self].sleep(late()) == Outcome::kTimedOut) return false;
      turn.fetch_add(1);
      beds[1 - self].wake();
    }
    return true;
  };
  std::thread other([&] { EXPECT_TRUE(play(1)); });
  EXPECT_TRUE(play(0));
  other.join();
  EXPECT_EQ(turn.load(), 2 * kTurns);
}

TEST(WaitQueue, WakesWhoWantsSomeOfTheEvents) {
  WaitQueue queue;
  Sleeper reader;
  Sleeper writer;
  Sleeper any;
  const WaitQueue::Entry entries[] = {
      {queue, reader, POLLIN}, {queue, writer, POLLOUT}, {queue, any}};
  queue.wake_all(POLLIN | POLLRDNORM);
  EXPECT_EQ(writer.sleep(soon()), Outcome::kTimedOut);
  EXPECT_EQ(reader.sleep(soon()), Outcome::kWoken);
  EXPECT_EQ(any.sleep(soon()), Outcome::kWoken);
  queue.wake_all();
  EXPECT_EQ(writer.sleep(soon()), Outcome::kWoken);
}

TEST(WaitQueue, WhoHasLeftIsWokenNoMoreWhereverItStood) {
  for (size_t leaving = 0; leaving < 3; ++leaving) {
    WaitQueue queue;
    Sleeper sleepers[3];
    std::optional<WaitQueue::Entry> entries[3];
    for (size_t i = 0; i < 3; ++i) entries[i].emplace(queue, sleepers[i]);
    entries[leaving].reset();
    queue.wake_all();
    for (size_t i = 0; i < 3; ++i)
      EXPECT_EQ(sleepers[i].sleep(soon(1)), i == leaving ? Outcome::kTimedOut : Outcome::kWoken);
    EXPECT_FALSE(queue.empty());
    for (auto& entry : entries) entry.reset();
    EXPECT_TRUE(queue.empty());
  }
}

TEST(WaitQueue, WakesMoreThanItTellsTheHostOfAtOnce) {
  constexpr size_t kThreads = 40;
  WaitQueue queue;
  std::deque<Sleeper> sleepers(kThreads);
  std::atomic<size_t> waiting{0};
  std::atomic<bool> open{false};
  std::vector<std::thread> threads;
  for (Sleeper& sleeper : sleepers)
    threads.emplace_back([&] {
      const Errno done = wait_until(queue, sleeper, late(), [&] {
        if (open.load()) return true;
        waiting.fetch_add(1);
        return false;
      });
      EXPECT_TRUE(done.ok());
    });
  while (waiting.load() < kThreads) std::this_thread::yield();
  std::this_thread::sleep_for(milliseconds(20));
  open = true;
  queue.wake_all();
  for (std::thread& thread : threads) thread.join();
}

TEST(WaitQueue, MayEndBeforeItsEntries) {
  auto queue = std::make_unique<WaitQueue>();
  Sleeper sleeper;
  const WaitQueue::Entry entry(*queue, sleeper);
  queue->wake_all();
  queue.reset();
  EXPECT_EQ(sleeper.sleep(soon()), Outcome::kWoken);
}

}  // namespace
}  // namespace fluyt::guest
