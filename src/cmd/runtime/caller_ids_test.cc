#include "cmd/runtime/caller_ids.h"

#include <gtest/gtest.h>

namespace fluyt::commands {
namespace {

using Mappings = std::vector<oci::IdMapping>;
using Ranges = std::vector<sys::IdRange>;

TEST(TakeOver, OurOwnIdIsRootAndOthersFollow) {
  Mappings one = {{.container_id = 0, .host_id = 1000, .size = 1}};
  EXPECT_EQ(take_over(one, 1000).value(), (Ranges{{0, 1000, 1}}));
  EXPECT_EQ(one, (Mappings{{0, 0, 1}}));

  Mappings usual = {{0, 1000, 1}, {1, 100'000, 65'536}};
  EXPECT_EQ(take_over(usual, 1000).value(), (Ranges{{0, 1000, 1}, {1, 100'000, 65'536}}));
  EXPECT_EQ(usual, (Mappings{{0, 0, 1}, {1, 1, 65'536}}));

  // Our own may be anybody inside, or not there at all.
  Mappings keep_id = {{0, 100'000, 1000}, {1000, 1000, 1}, {1001, 101'000, 500}};
  EXPECT_EQ(take_over(keep_id, 1000).value(),
            (Ranges{{0, 1000, 1}, {1, 100'000, 1000}, {1001, 101'000, 500}}));
  EXPECT_EQ(keep_id, (Mappings{{0, 1, 1000}, {1000, 0, 1}, {1001, 1001, 500}}));
}

TEST(TakeOver, MoreIdsThanThereAreIsAnError) {
  Mappings many = {{0, 100'000, UINT32_MAX}};
  EXPECT_FALSE(take_over(many, 1000).ok());
}

}  // namespace
}  // namespace fluyt::commands
