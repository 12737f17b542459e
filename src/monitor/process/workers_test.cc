#include "monitor/process/workers.h"

#include <gtest/gtest.h>
#include <unistd.h>

#include <functional>
#include <optional>
#include <utility>

#include "base/time.h"

namespace fluyt::monitor {
namespace {

// Stands for a child's: nobody asks the kernel about it.
constexpr pid_t kChild = 4242;

class WorkersTest : public testing::Test {
 protected:
  using Body = std::function<Result<WorkerReply>(const Announce&)>;
  static WorkerReply hang() {
    while (true) pause();
  }
  WorkerId start(Body body, int64_t deadline_ms = 30'000) {
    WorkerJob job{.body = std::move(body),
                  .keep = {},
                  .deadline_ms = deadline_ms,
                  .makes_children = true,
                  .done = [this](Result<WorkerReply> reply, const std::string&) {
                    named_ = workers_.take_exit(kChild);
                    told_.emplace(std::move(reply));
                  }};
    auto started = workers_.start(std::move(job));
    EXPECT_TRUE(started.ok());
    return std::move(started).value_or(0);
  }
  // Until the worker has told; its process, whatever becomes of it, is not reaped.
  void wait_told() {
    const Deadline deadline = Deadline::after_ms(20'000);
    while (!told_ && !deadline.passed()) ASSERT_TRUE(loop_.run_once().ok());
    ASSERT_TRUE(told_.has_value());
  }
  bool keeps_an_exit() {
    workers_.keep_exit(kChild, {.code = 7});
    return workers_.take_exit(kChild).has_value();
  }
  Loop loop_ = Loop::create().value();
  Workers workers_{loop_};
  std::optional<Result<WorkerReply>> told_;
  std::optional<sys::ExitStatus> named_;
};

TEST_F(WorkersTest, AReplyFindsTheExitThatCameBeforeIt) {
  EXPECT_FALSE(keeps_an_exit());
  start([](const Announce&) { return WorkerReply{}; });
  workers_.keep_exit(kChild, {.code = 7});
  wait_told();
  ASSERT_TRUE(named_.has_value());
  EXPECT_EQ(named_->code, 7);
}

// One that the kernel holds stays in the table, maybe for hours.
TEST_F(WorkersTest, OneThatWasGivenUpKeepsNoExits) {
  start([](const Announce&) { return hang(); }, 1);
  wait_told();
  EXPECT_EQ(told_->error().code(), Code::kDeadlineExceeded);
  EXPECT_FALSE(keeps_an_exit());
}

TEST_F(WorkersTest, OneThatHasToldKeepsNoExitsWhileItEnds) {
  start([](const Announce&) { return WorkerReply{}; });
  wait_told();
  EXPECT_FALSE(keeps_an_exit());
}

TEST_F(WorkersTest, AnExitIsForgottenWithTheLastThatMightHaveNamedIt) {
  const WorkerId first = start([](const Announce&) { return hang(); });
  const WorkerId second = start([](const Announce&) { return hang(); });
  constexpr pid_t kOther = kChild + 1;
  workers_.keep_exit(kOther, {.code = 0});
  workers_.cancel(first);
  EXPECT_TRUE(keeps_an_exit());  // the second may name it
  workers_.cancel(second);
  EXPECT_FALSE(workers_.take_exit(kOther).has_value());
}

}  // namespace
}  // namespace fluyt::monitor
