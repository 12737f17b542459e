#include "base/signal_name.h"

#include <gtest/gtest.h>

namespace fluyt {
namespace {

TEST(Signals, AreReadAsPeopleWriteThem) {
  EXPECT_EQ(signal_number("SIGTERM"), 15);
  EXPECT_EQ(signal_number("term"), 15);
  EXPECT_EQ(signal_number("9"), 9);
  EXPECT_EQ(signal_number("SIGRTMIN+3"), 37);
  EXPECT_EQ(signal_number("RTMAX-1"), 63);
  for (const char* bad : {"", "SIG", "0", "65", "-1", "SIGFOO", "RTMIN+31", "15 "}) {
    EXPECT_FALSE(signal_number(bad)) << bad;
  }
}

}  // namespace
}  // namespace fluyt
