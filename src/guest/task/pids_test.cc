#include "guest/task/pids.h"

#include <gtest/gtest.h>

namespace fluyt::guest {
namespace {

TEST(PidSpace, TheFirstShowsIdsAsTheyAre) {
  const PidSpace first(nullptr, 1);
  EXPECT_EQ(first.number_of(17), 17);
  EXPECT_EQ(first.id_of(17), 17);
  EXPECT_EQ(first.id_of(-1), 0);
  EXPECT_EQ(first.id_of(0), 0);
}

TEST(PidSpace, OthersNumberFromOneWhoIsBornInThem) {
  const auto first = std::make_shared<PidSpace>(nullptr, 1);
  const auto inner = std::make_shared<PidSpace>(first, 2);
  const auto innermost = std::make_shared<PidSpace>(inner, 3);
  EXPECT_EQ(inner->admit(40).value(), 1);
  EXPECT_EQ(inner->admit(41).value(), 2);
  EXPECT_EQ(innermost->admit(41).value(), 1);
  EXPECT_EQ(inner->number_of(41), 2);
  EXPECT_EQ(innermost->number_of(41), 1);
  EXPECT_EQ(innermost->id_of(1), 41);
  EXPECT_EQ(innermost->number_of(40), 0);
  EXPECT_EQ(inner->number_of(39), 0);
  EXPECT_EQ(inner->id_of(3), 0);
}

TEST(PidSpace, ANumberIsNotGivenAgainAtOnce) {
  const auto first = std::make_shared<PidSpace>(nullptr, 1);
  PidSpace inner(first, 2);
  EXPECT_EQ(inner.admit(40).value(), 1);
  EXPECT_EQ(inner.admit(41).value(), 2);
  inner.forget(41);
  inner.forget(77);
  EXPECT_EQ(inner.number_of(41), 0);
  EXPECT_EQ(inner.id_of(2), 0);
  EXPECT_EQ(inner.admit(42).value(), 3);
}

TEST(PidSpace, KnowsWhatItLiesIn) {
  const auto first = std::make_shared<PidSpace>(nullptr, 1);
  const auto inner = std::make_shared<PidSpace>(first, 2);
  const PidSpace beside(first, 3);
  EXPECT_TRUE(inner->is_within(*first));
  EXPECT_TRUE(inner->is_within(*inner));
  EXPECT_FALSE(first->is_within(*inner));
  EXPECT_FALSE(beside.is_within(*inner));
}

}  // namespace
}  // namespace fluyt::guest
