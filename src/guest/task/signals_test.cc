#include "guest/task/signals.h"

#include <gtest/gtest.h>
#include <signal.h>

namespace fluyt::guest {
namespace {

SignalInfo signal_of(int number, uint64_t value = 0) {
  SignalInfo info;
  info.signo = number;
  info.payload[1] = value;
  return info;
}

TEST(PendingSignals, AStandardSignalIsKeptOnce) {
  PendingSignals pending;
  pending.add(signal_of(SIGUSR1, 1));
  pending.add(signal_of(SIGUSR1, 2));
  EXPECT_EQ(pending.take(0)->payload[1], 1U);
  EXPECT_FALSE(pending.take(0).has_value());
}

TEST(PendingSignals, RealTimeSignalsQueueInOrder) {
  PendingSignals pending;
  for (uint64_t i = 0; i < 3; ++i) pending.add(signal_of(40, i));
  pending.add(signal_of(39, 9));
  EXPECT_EQ(pending.take(0)->payload[1], 9U);
  for (uint64_t i = 0; i < 3; ++i) EXPECT_EQ(pending.take(0)->payload[1], i);
  EXPECT_EQ(pending.set(), 0U);
}

TEST(PendingSignals, BlockedOnesStayAndFaultsComeFirst) {
  PendingSignals pending;
  pending.add(signal_of(SIGHUP));
  pending.add(signal_of(SIGSEGV));
  EXPECT_EQ(pending.take(0)->signo, SIGSEGV);
  EXPECT_FALSE(pending.take(signal_bit(SIGHUP)).has_value());
  EXPECT_EQ(pending.take(0)->signo, SIGHUP);
}

TEST(PendingSignals, DiscardedOnesAreGone) {
  PendingSignals pending;
  pending.add(signal_of(SIGTSTP));
  pending.add(signal_of(SIGTERM));
  pending.discard(signal_bit(SIGTSTP));
  EXPECT_EQ(pending.set(), signal_bit(SIGTERM));
}

}  // namespace
}  // namespace fluyt::guest
