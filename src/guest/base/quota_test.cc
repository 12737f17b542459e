#include "guest/base/quota.h"

#include <gtest/gtest.h>

#include <memory>
#include <vector>

namespace fluyt::guest {
namespace {

TEST(Share, LeavesAsMuchAsItsHolderHas) {
  const auto all = std::make_shared<Quota>(100);
  const auto one = Quota::share_of(all);
  EXPECT_FALSE(one->take(101));
  EXPECT_TRUE(one->take(50));
  EXPECT_FALSE(one->take(1));
  EXPECT_EQ(one->left(), 0U);
  // Whoever comes next has the same of what is left.
  const auto two = Quota::share_of(all);
  EXPECT_EQ(two->left(), 50U);
  EXPECT_TRUE(two->take(25));
  EXPECT_FALSE(two->take(1));
  one->give_back(20);
  EXPECT_TRUE(two->take(10));
  EXPECT_EQ(all->used(), 65U);
}

TEST(Share, OfManyWhoTakeWhatTheyCanSomeIsLeftForTheNext) {
  const auto all = std::make_shared<Quota>(1000);
  std::vector<std::shared_ptr<Quota>> greedy;
  for (int i = 0; i < 4; ++i) greedy.push_back(Quota::share_of(all));
  for (bool any = true; any;) {
    any = false;
    for (const auto& one : greedy) any |= one->take(1);
  }
  EXPECT_GE(all->left(), 200U);
  for (const auto& one : greedy) EXPECT_NEAR(static_cast<double>(one->used()), 200, 1);
  const auto next = Quota::share_of(all);
  EXPECT_TRUE(next->take(50));
}

TEST(Share, OfWhatIsWithoutLimitIsWithoutLimit) {
  const auto one = Quota::share_of(std::make_shared<Quota>());
  EXPECT_TRUE(one->take(uint64_t{1} << 62));
}

}  // namespace
}  // namespace fluyt::guest
