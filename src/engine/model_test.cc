#include "engine/model.h"

#include <gtest/gtest.h>

#include "engine/core.h"

namespace fluyt::engine {
namespace {

Container container_with(const std::string& id, ContainerState state) {
  Container container;
  container.id = id;
  container.sandbox_id = "5a5a";
  container.state = state;
  container.config.labels = {{"app", "web"}, {"tier", "front"}};
  return container;
}

TEST(Filters, AnEmptyOneTakesAll) {
  EXPECT_TRUE(matches(ContainerFilter{}, container_with("c1", ContainerState::kRunning)));
  EXPECT_TRUE(matches(SandboxFilter{}, Sandbox{}));
}

TEST(Filters, EveryPartMustMatch) {
  const Container container = container_with("abcd", ContainerState::kRunning);
  EXPECT_TRUE(matches({.id = "ab", .labels = {{"app", "web"}}}, container));
  EXPECT_FALSE(matches({.id = "b"}, container));
  EXPECT_FALSE(matches({.state = ContainerState::kExited}, container));
  EXPECT_FALSE(matches({.sandbox_id = "77"}, container));
  EXPECT_FALSE(matches({.labels = {{"app", "web"}, {"tier", "back"}}}, container));
  EXPECT_FALSE(matches({.labels = {{"App", "web"}}}, container));
}

TEST(Merged, TakesStartAndExitFromTheMonitor) {
  Container container = container_with("c1", ContainerState::kCreated);
  container =
      merged(container, {.state = monitor::ContainerState::kRunning, .pid = 7, .started_at = 5});
  EXPECT_EQ(container.state, ContainerState::kRunning);
  EXPECT_EQ(container.pid, 7);
  container = merged(container, {.state = monitor::ContainerState::kExited,
                                 .started_at = 5,
                                 .finished_at = 9,
                                 .exit_code = 3});
  EXPECT_EQ(container.state, ContainerState::kExited);
  EXPECT_EQ(container.exit_code, 3);
  EXPECT_EQ(container.finished_at, 9);
  EXPECT_EQ(container.reason, "Error");
  EXPECT_EQ(container.pid, 0);
}

TEST(Merged, ALateStartDoesNotBringTheDeadBack) {
  Container container = container_with("c1", ContainerState::kCreated);
  container = merged(container, {.state = monitor::ContainerState::kExited, .started_at = 1});
  container = merged(container, {.state = monitor::ContainerState::kRunning, .pid = 7});
  EXPECT_EQ(container.state, ContainerState::kExited);
  EXPECT_EQ(container.reason, "Completed");
}

TEST(Merged, NamesTheReason) {
  const auto reason = [](monitor::ContainerInfo info) {
    info.state = monitor::ContainerState::kExited;
    return merged(container_with("c1", ContainerState::kCreated), info).reason;
  };
  EXPECT_EQ(reason({.started_at = 1, .exit_code = 137, .oom_killed = true}), "OOMKilled");
  EXPECT_EQ(reason({.started_at = 1, .exit_code = 137}), "Error");
  EXPECT_EQ(reason({.exit_code = 127, .message = "no such program"}), "StartError");
}

TEST(Merged, OutputThatTheLogDidNotTakeIsReported) {
  monitor::ContainerInfo info{.started_at = 1, .exit_code = 0, .log_bytes_dropped = 77};
  info.state = monitor::ContainerState::kExited;
  EXPECT_EQ(merged(container_with("c1", ContainerState::kRunning), info).message,
            "77 bytes of its output could not be written to its log");
}

TEST(Lost, IsAKillThatNobodySaw) {
  const Container container = lost(container_with("c1", ContainerState::kRunning), 12);
  EXPECT_EQ(container.state, ContainerState::kExited);
  EXPECT_EQ(container.exit_code, 137);
  EXPECT_EQ(container.reason, "MonitorLost");
  EXPECT_EQ(container.finished_at, 12);
}

TEST(LostWithBoot, IsUnknownAndLeavesAnEarlierExitAlone) {
  const Container container = lost_with_boot(container_with("c1", ContainerState::kRunning), 12);
  EXPECT_EQ(container.state, ContainerState::kExited);
  EXPECT_EQ(container.exit_code, 255);
  EXPECT_EQ(container.reason, "Unknown");
  Container before = container_with("c1", ContainerState::kExited);
  before.exit_code = 3;
  EXPECT_EQ(lost_with_boot(before, 12), before);
}

}  // namespace
}  // namespace fluyt::engine
