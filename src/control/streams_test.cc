#include "control/streams.h"

#include <gtest/gtest.h>
#include <signal.h>

#include <thread>

#include "sys/file.h"

namespace fluyt::control {
namespace {

struct Ends {
  std::string text;
  std::vector<Source> sources;
  sys::Fd write;
};

Ends make_ends() {
  Ends ends;
  auto pipe = sys::make_pipe().value();
  ends.write = std::move(pipe.write);
  ends.sources.push_back({std::move(pipe.read), {}});
  return ends;
}

TEST(Pump, MovesEverythingUpToTheEnd) {
  auto stop = Flag::create().value();
  auto finish = Flag::create().value();
  Ends ends = make_ends();
  ends.sources[0].sink = [&](std::string_view data) {
    ends.text += data;
    return true;
  };
  std::thread writer([&] {
    for (int i = 0; i < 1000; ++i)
      ASSERT_TRUE(sys::write_all(ends.write, std::string(1000, 'x')).ok());
    ends.write.reset();
  });
  EXPECT_EQ(pump(ends.sources, stop, finish), PumpEnd::kAllEnded);
  writer.join();
  EXPECT_EQ(ends.text.size(), 1'000'000U);
}

TEST(Pump, AtTheProcesssEndTakesWhatIsThereThoughSomebodyHoldsThePipe) {
  auto stop = Flag::create().value();
  auto finish = Flag::create().value();
  Ends ends = make_ends();
  ends.sources[0].sink = [&](std::string_view data) {
    ends.text += data;
    return true;
  };
  ASSERT_TRUE(sys::write_all(ends.write, std::string(60000, 'y')).ok());
  finish.set();
  EXPECT_EQ(pump(ends.sources, stop, finish), PumpEnd::kDrained);
  EXPECT_EQ(ends.text.size(), 60000U);
}

TEST(Pump, StopsWhenToldOrRefused) {
  auto stop = Flag::create().value();
  auto finish = Flag::create().value();
  Ends ends = make_ends();
  ends.sources[0].sink = [&](std::string_view) { return false; };
  ASSERT_TRUE(sys::write_all(ends.write, "z").ok());
  EXPECT_EQ(pump(ends.sources, stop, finish), PumpEnd::kStopped);
  stop.set();
  EXPECT_EQ(pump(ends.sources, stop, finish), PumpEnd::kStopped);
}

TEST(WriteUntil, IsStoppedOverAFullPipeAndEndsWhenNobodyReads) {
  ::signal(SIGPIPE, SIG_IGN);
  auto stop = Flag::create().value();
  auto pipe = sys::make_pipe().value();
  ASSERT_TRUE(sys::set_nonblocking(pipe.write, true).ok());
  std::thread stopper([&] { stop.set(); });
  EXPECT_FALSE(write_until(pipe.write, std::string(1'000'000, 'x'), stop));
  stopper.join();
  auto other = Flag::create().value();
  pipe.read.reset();
  EXPECT_FALSE(write_until(pipe.write, "x", other));
}

}  // namespace
}  // namespace fluyt::control
