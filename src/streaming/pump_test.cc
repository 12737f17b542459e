#include "streaming/pump.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/socket.h>
#include <unistd.h>

#include <array>
#include <csignal>
#include <future>
#include <thread>

#include "streaming/workers.h"
#include "sys/file.h"
#include "sys/socket.h"

namespace fluyt::streaming {
namespace {

class Pump : public testing::Test {
 protected:
  static void SetUpTestSuite() { (void)std::signal(SIGPIPE, SIG_IGN); }

  /// Runs the loop until `done` is true; a test that hangs is stopped after ten seconds.
  void run_until(const std::function<bool()>& done) {
    done_ = done;
    late_ = loop->after(10'000, [this] {
      ADD_FAILURE() << "gave up";
      loop->stop();
    });
    look();
    loop->run();
  }

  std::unique_ptr<Source> source(sys::Fd fd, Source::Taker taker) {
    return std::move(*Source::create(*loop, std::move(fd), std::move(taker)));
  }
  std::unique_ptr<Sink> sink(sys::Fd fd, Sink::End end = Sink::End::kClose) {
    return std::move(*Sink::create(*loop, std::move(fd), end, [this] { ++rooms; }));
  }

  std::unique_ptr<Loop> loop = Loop::create();
  int rooms = 0;

 private:
  void look() {
    if (done_()) return loop->stop();
    again_ = loop->after(1, [this] { look(); });
  }
  std::function<bool()> done_;
  std::unique_ptr<Loop::Timer> late_;
  std::unique_ptr<Loop::Timer> again_;
};

TEST_F(Pump, ASourceGivesWhatComesAndThenItsEnd) {
  auto pipe = *sys::make_pipe();
  ASSERT_TRUE(sys::write_all(pipe.write, "hello").ok());
  pipe.write.reset();
  std::string got;
  bool ended = false;
  const auto from = source(std::move(pipe.read), [&](std::string_view bytes) {
    ended = bytes.empty();
    got += bytes;
  });
  run_until([&] { return ended; });
  EXPECT_EQ(got, "hello");
}

TEST_F(Pump, APausedSourceGivesNothing) {
  auto pipe = *sys::make_pipe();
  std::string got;
  const auto from = source(std::move(pipe.read), [&](std::string_view bytes) { got += bytes; });
  from->pause();
  ASSERT_TRUE(sys::write_all(pipe.write, "later").ok());
  bool waited = false;
  const auto timer = loop->after(30, [&] {
    waited = true;
    EXPECT_EQ(got, "");
    from->resume();
  });
  run_until([&] { return waited && got == "later"; });
}

TEST_F(Pump, WhatIsThereAtTheEndIsGivenWhoeverHoldsThePipe) {
  auto pipe = *sys::make_pipe();
  ASSERT_TRUE(sys::write_all(pipe.write, "before").ok());
  std::string got;
  bool ended = false;
  const auto from = source(std::move(pipe.read), [&](std::string_view bytes) {
    ended = bytes.empty();
    got += bytes;
  });
  from->end_after_what_is_there();
  ASSERT_TRUE(sys::write_all(pipe.write, "behind").ok());  // its holder goes on
  run_until([&] { return ended; });
  EXPECT_EQ(got, "before");
}

TEST_F(Pump, NothingThereIsTheEndAtOnceButNotWhilePaused) {
  auto pipe = *sys::make_pipe();
  bool ended = false;
  const auto from =
      source(std::move(pipe.read), [&](std::string_view bytes) { ended = bytes.empty(); });
  from->pause();
  from->end_after_what_is_there();
  EXPECT_FALSE(ended);
  from->resume();
  EXPECT_TRUE(ended);
}

TEST_F(Pump, AQuietSourceEndsAndANoisyOneIsLimited) {
  auto quiet = *sys::make_pipe();
  auto noisy = *sys::make_pipe();
  ASSERT_TRUE(sys::write_all(quiet.write, "prompt").ok());
  std::string got;
  bool quiet_ended = false;
  bool noisy_ended = false;
  const auto one = source(std::move(quiet.read), [&](std::string_view bytes) {
    quiet_ended = bytes.empty();
    got += bytes;
  });
  const auto other =
      source(std::move(noisy.read), [&](std::string_view bytes) { noisy_ended = bytes.empty(); });
  one->end_when_quiet();
  other->end_when_quiet();
  std::thread noise([fd = std::move(noisy.write), &noisy_ended] {
    const std::string bytes(4096, 'n');
    while (::write(fd.raw(), bytes.data(), bytes.size()) > 0) {
    }
  });
  run_until([&] { return quiet_ended && noisy_ended; });
  noise.join();
  EXPECT_EQ(got, "prompt");
}

TEST_F(Pump, ATakerMayDestroyItsSource) {
  auto pipe = *sys::make_pipe();
  ASSERT_TRUE(sys::write_all(pipe.write, "x").ok());
  std::unique_ptr<Source> from;
  bool called = false;
  from = source(std::move(pipe.read), [&](std::string_view) {
    called = true;
    from.reset();
  });
  run_until([&] { return called; });
}

TEST_F(Pump, ASinkKeepsWhatDoesNotFitAndSaysWhenThereIsRoom) {
  auto pipe = *sys::make_pipe();
  const auto to = sink(std::move(pipe.write));
  to->write(std::string(1UL << 20U, 'x'));
  EXPECT_TRUE(to->is_full());
  to->finish();
  auto reader = std::async(std::launch::async,
                           [&] { return sys::read_all(pipe.read, 2UL << 20U).value().size(); });
  run_until([&] { return reader.wait_for(std::chrono::seconds(0)) == std::future_status::ready; });
  EXPECT_EQ(reader.get(), 1UL << 20U);
  EXPECT_EQ(rooms, 1);
}

TEST_F(Pump, ASinkWithoutAReaderDropsAndIsNotFull) {
  auto pipe = *sys::make_pipe();
  pipe.read.reset();
  const auto to = sink(std::move(pipe.write));
  to->write(std::string(1UL << 20U, 'x'));
  EXPECT_FALSE(to->is_full());
  to->write("more");
  to->finish();
}

TEST_F(Pump, ASocketsOtherDirectionGoesOn) {
  auto pair = *sys::make_socketpair(SOCK_STREAM);
  const auto to = sink(*sys::duplicate(pair.first), Sink::End::kShutdown);
  to->write("bye");
  to->finish();
  EXPECT_EQ(sys::read_all(pair.second, 100).value(), "bye");
  ASSERT_TRUE(sys::write_all(pair.second, "answer").ok());
  std::array<char, 16> buffer{};
  EXPECT_EQ(sys::read_some(pair.first, buffer).value(), 6U);
}

TEST_F(Pump, WorkThatWasPostedRunsOnTheLoop) {
  Workers workers(2);
  std::thread::id where;
  for (int i = 0; i < 10; ++i) {
    workers.post([&] { loop->post([&] { where = std::this_thread::get_id(); }); });
  }
  EXPECT_TRUE(workers.drain(Deadline::after_ms(10'000)));
  run_until([&] { return where == std::this_thread::get_id(); });
}

TEST(Workers, ALateOneIsNotWaitedForBeyondTheDeadline) {
  std::promise<void> gate;
  Workers workers(1);
  workers.post([&] { gate.get_future().wait(); });
  EXPECT_FALSE(workers.drain(Deadline::after_ms(20)));
  gate.set_value();
  EXPECT_TRUE(workers.drain(Deadline::after_ms(10'000)));
}

}  // namespace
}  // namespace fluyt::streaming
