#include "engine/state.h"

#include <gtest/gtest.h>

#include <vector>

namespace fluyt::engine {
namespace {

TEST(ContainerStates, FollowTheDiagram) {
  using S = ContainerState;
  using E = ContainerEvent;
  EXPECT_EQ(next(S::kCreating, E::kMade), S::kCreated);
  EXPECT_EQ(next(S::kCreated, E::kStarted), S::kRunning);
  EXPECT_EQ(next(S::kCreated, E::kExited), S::kExited);
  EXPECT_EQ(next(S::kRunning, E::kExited), S::kExited);
  EXPECT_EQ(next(S::kExited, E::kMade), S::kCreated);
}

TEST(ContainerStates, ALateStartOrASecondExitChangesNothing) {
  for (const auto event : {ContainerEvent::kStarted, ContainerEvent::kExited})
    EXPECT_FALSE(next(ContainerState::kExited, event));
}

TEST(ContainerStates, WhatIsBeingMadeCannotStartOrExit) {
  EXPECT_FALSE(next(ContainerState::kCreating, ContainerEvent::kStarted));
  EXPECT_FALSE(next(ContainerState::kCreating, ContainerEvent::kExited));
}

TEST(SandboxStates, FollowTheDiagram) {
  using S = SandboxState;
  using E = SandboxEvent;
  EXPECT_EQ(next(S::kCreating, E::kMade), S::kReady);
  EXPECT_EQ(next(S::kCreating, E::kNotUndone), S::kNotReady);
  EXPECT_EQ(next(S::kReady, E::kStopped), S::kNotReady);
  EXPECT_EQ(next(S::kReady, E::kLost), S::kNotReady);
  EXPECT_EQ(next(S::kNotReady, E::kMade), S::kReady);
  for (const auto event : {E::kStopped, E::kLost, E::kNotUndone})
    EXPECT_FALSE(next(S::kNotReady, event));
}

}  // namespace
}  // namespace fluyt::engine
