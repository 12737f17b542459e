#include "base/standby_thread.h"

#include <gtest/gtest.h>

#include <thread>

namespace fluyt {
namespace {

TEST(StandbyThread, DoesWhatItIsToldOnAThreadOfItsOwn) {
  std::thread::id where;
  StandbyThread thread;
  thread.run([&] { where = std::this_thread::get_id(); });
  thread.join();
  thread.join();
  EXPECT_NE(where, std::thread::id());
  EXPECT_NE(where, std::this_thread::get_id());
}

TEST(StandbyThread, IsWaitedForByWhoLetsGoOfIt) {
  bool done = false;
  {
    StandbyThread thread;
    thread.run([&] { done = true; });
  }
  EXPECT_TRUE(done);
  {
    const StandbyThread with_nothing_to_do;
  }
}

}  // namespace
}  // namespace fluyt
