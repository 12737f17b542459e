#include "engine/event_queue.h"

#include <gtest/gtest.h>

#include <thread>

namespace fluyt::engine {
namespace {

Event event(int64_t time, Event::Kind kind = Event::Kind::kContainerStarted) {
  Event out{};
  out.kind = kind;
  out.time = time;
  return out;
}

TEST(EventQueue, GivesWhatCameInOrder) {
  EventQueue queue;
  for (int64_t i = 0; i < 3; ++i) queue.push(event(i));
  std::deque<Event> out;
  EXPECT_EQ(queue.take(out, Deadline::after_ms(0)), EventQueue::State::kOpen);
  ASSERT_EQ(out.size(), 3U);
  for (int64_t i = 0; i < 3; ++i) EXPECT_EQ(out[static_cast<size_t>(i)].time, i);
  EXPECT_EQ(queue.take(out, Deadline::after_ms(0)), EventQueue::State::kOpen);
  EXPECT_TRUE(out.empty());
}

TEST(EventQueue, OneThatIsFullSaysSoForGood) {
  EventQueue queue(2);
  EXPECT_FALSE(queue.full_since());
  for (int64_t i = 0; i < 3; ++i) queue.push(event(i));
  EXPECT_TRUE(queue.full_since());
  std::deque<Event> out;
  EXPECT_EQ(queue.take(out, Deadline::after_ms(0)), EventQueue::State::kFull);
  EXPECT_TRUE(out.empty());
  // What comes later would hide the gap.
  queue.push(event(4));
  EXPECT_EQ(queue.take(out, Deadline::after_ms(0)), EventQueue::State::kFull);
  EXPECT_TRUE(out.empty());
}

TEST(EventQueue, TheEndComesAfterWhatWasTold) {
  EventQueue queue;
  queue.push(event(1));
  queue.push(event(2, Event::Kind::kEnd));
  queue.push(event(3));
  std::deque<Event> out;
  EXPECT_EQ(queue.take(out, Deadline::never()), EventQueue::State::kEnded);
  ASSERT_EQ(out.size(), 1U);
  EXPECT_EQ(out[0].time, 1);
}

TEST(EventQueue, AWaitEndsWithTheFirstEvent) {
  EventQueue queue;
  std::thread later([&] { queue.push(event(1)); });
  std::deque<Event> out;
  queue.take(out, Deadline::never());
  EXPECT_EQ(out.size(), 1U);
  later.join();
}

}  // namespace
}  // namespace fluyt::engine
