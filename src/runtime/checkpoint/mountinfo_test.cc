#include "runtime/checkpoint/mountinfo.h"

#include <gtest/gtest.h>

namespace fluyt::runtime::checkpoint {
namespace {

TEST(MountInfo, IsReadWithItsEscapes) {
  const auto mounts = parse_mountinfo(
      "36 35 98:0 /mnt1 /a\\040b\\012c ro,nosuid master:1 - ext3 /dev/root rw\n"
      "37 36 0:5 / /p\\134 rw - tmpfs none rw,size=1k\n");
  ASSERT_TRUE(mounts.ok());
  ASSERT_EQ(mounts->size(), 2U);
  const MountInfo& first = (*mounts)[0];
  EXPECT_EQ(first.id, 36U);
  EXPECT_EQ(first.parent, 35U);
  EXPECT_EQ(first.device, "98:0");
  EXPECT_EQ(first.root, "/mnt1");
  EXPECT_EQ(first.point, "/a b\nc");
  EXPECT_EQ(first.type, "ext3");
  EXPECT_TRUE(first.has("ro"));
  EXPECT_TRUE(first.has("nosuid"));
  EXPECT_FALSE(first.has("nodev"));
  EXPECT_EQ((*mounts)[1].point, "/p\\");
}

TEST(MountInfo, RefusesOtherLines) {
  for (const char* text : {"1 2 3", "x 1 0:1 / / rw - proc proc rw",
                           "1 2 0:1 / / rw proc proc rw x", "1 2 0:1 / / rw - proc"}) {
    EXPECT_FALSE(parse_mountinfo(text).ok()) << text;
  }
}

}  // namespace
}  // namespace fluyt::runtime::checkpoint
