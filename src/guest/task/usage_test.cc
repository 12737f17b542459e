#include <gtest/gtest.h>

#include "guest/task/task.h"

namespace fluyt::guest {
namespace {

constexpr int64_t kSecond = 1'000'000'000;
constexpr int64_t kStart = 77 * kSecond;

TEST(LoadAverage, NothingIsNothing) {
  LoadAverage load(kStart);
  EXPECT_EQ(load.look(kStart, 0), LoadAverage::Values());
  EXPECT_EQ(load.look(kStart + 900 * kSecond, 0), LoadAverage::Values());
}

TEST(LoadAverage, ShortOnesFollowFirst) {
  LoadAverage load(kStart);
  const auto busy = load.look(kStart + 60 * kSecond, 2 * 60 * kSecond);
  EXPECT_NEAR(busy[0], 2 * (1 - 0.367879), 1e-4);
  EXPECT_GT(busy[0], busy[1]);
  EXPECT_GT(busy[1], busy[2]);
  EXPECT_GT(busy[2], 0);
  const auto idle = load.look(kStart + 120 * kSecond, 2 * 60 * kSecond);
  EXPECT_NEAR(idle[0], busy[0] * 0.367879, 1e-4);
  EXPECT_GT(idle[2], idle[0] / 4);
}

TEST(LoadAverage, HowOftenItIsLookedAtMakesNoDifference) {
  LoadAverage seldom(kStart);
  LoadAverage often(kStart);
  for (int64_t second = 1; second < 100; ++second)
    often.look(kStart + second * kSecond, second * kSecond / 2);
  const auto once = seldom.look(kStart + 100 * kSecond, 50 * kSecond);
  const auto many = often.look(kStart + 100 * kSecond, 50 * kSecond);
  for (size_t i = 0; i < once.size(); ++i) EXPECT_NEAR(once[i], many[i], 1e-9);
}

TEST(LoadAverage, TimeThatSeemsToGoBackIsNoLoad) {
  LoadAverage load(kStart);
  load.look(kStart + kSecond, kSecond);
  const auto before = load.look(kStart + 2 * kSecond, 2 * kSecond);
  EXPECT_EQ(load.look(kStart + kSecond, 3 * kSecond), before);
  for (const double value : load.look(kStart + 3 * kSecond, 0)) EXPECT_GE(value, 0);
}

}  // namespace
}  // namespace fluyt::guest
