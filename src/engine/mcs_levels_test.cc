#include "engine/mcs_levels.h"

#include <gtest/gtest.h>

#include <set>
#include <vector>

namespace fluyt::engine {
namespace {

TEST(McsLevelsTest, APairOfCategoriesHasANumber) {
  EXPECT_EQ(mcs_level(0), "s0:c0,c1");
  EXPECT_EQ(mcs_level(1022), "s0:c0,c1023");
  EXPECT_EQ(mcs_level(1023), "s0:c1,c2");
  EXPECT_EQ(mcs_level(McsLevels::kPairs - 1), "s0:c1022,c1023");
}

TEST(McsLevelsTest, NobodyGetsOneThatIsHad) {
  McsLevels levels;
  const auto recorded = levels.hold("s0:c0,c2");
  std::set<std::string> seen = {recorded.level()};
  std::vector<McsLevels::Hold> holds;
  for (int i = 0; i < 100; ++i) {
    holds.push_back(*levels.take(0));
    EXPECT_TRUE(seen.insert(holds.back().level()).second) << holds.back().level();
  }
  const std::string last = levels.take(McsLevels::kPairs - 1)->level();
  EXPECT_EQ(last, "s0:c1022,c1023");
  const auto at_end = levels.take(McsLevels::kPairs - 1);
  EXPECT_EQ(at_end->level(), last);                                      // it was given back
  EXPECT_EQ(levels.take(McsLevels::kPairs - 1)->level(), "s0:c0,c102");  // all around
}

TEST(McsLevelsTest, OneThatSeveralHaveIsFreeWithTheLast) {
  McsLevels levels;
  auto one = levels.hold("s0:c0,c1");
  {
    const auto other = levels.hold("s0:c0,c1");
  }
  EXPECT_EQ(levels.take(0)->level(), "s0:c0,c2");
  one = McsLevels::Hold();
  EXPECT_EQ(levels.take(0)->level(), "s0:c0,c1");
}

TEST(McsLevelsTest, AHoldOutlivesWhoGaveIt) {
  McsLevels::Hold left;
  {
    McsLevels levels;
    left = *levels.take();
  }
  EXPECT_FALSE(left.level().empty());
}

}  // namespace
}  // namespace fluyt::engine
