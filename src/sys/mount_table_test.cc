#include "sys/mount_table.h"

#include <fcntl.h>
#include <gtest/gtest.h>

#include "sys/file.h"
#include "sys/mount.h"

namespace fluyt::sys {
namespace {

TEST(MountTable, IsWhatMountinfoSays) {
  const MountTable table = MountTable::parse(
      "22 1 8:1 / / rw,relatime shared:1 - ext4 /dev/sda1 rw,seclabel\n"
      "30 22 0:40 / /a\\040b rw shared:2 master:1 - nfs server:/x rw,vers=4.2,addr=10.0.0.1\n"
      "31 30 0:41 / /a\\040b ro - tmpfs seclabel ro,size=64k\n"
      "\n"
      "no line\n");
  ASSERT_EQ(table.all().size(), 3U);
  ASSERT_NE(table.find(22), nullptr);
  EXPECT_EQ(table.find(22)->device, "8:1");
  EXPECT_EQ(table.find(22)->point, "/");
  EXPECT_TRUE(table.find(22)->keeps_labels);
  EXPECT_FALSE(table.find(30)->keeps_labels);
  EXPECT_FALSE(table.find(31)->keeps_labels);  // that is the name of what is mounted
  ASSERT_NE(table.find_at("/a b"), nullptr);
  EXPECT_EQ(table.find_at("/a b")->id, 31U);
  EXPECT_EQ(table.find_at("/a b")->parent, 30U);
  EXPECT_EQ(table.find_at("/a"), nullptr);
  EXPECT_EQ(table.find(1), nullptr);
}

TEST(MountTable, HasTheMountsOfNow) {
  const auto table = MountTable::read();
  ASSERT_TRUE(table.ok()) << table.error().message();
  const auto proc = open("/proc", O_PATH);
  ASSERT_TRUE(proc.ok());
  const MountedAt* mount = table->find(*mountinfo_id(*proc));
  ASSERT_NE(mount, nullptr);
  EXPECT_EQ(mount->point, "/proc");
}

}  // namespace
}  // namespace fluyt::sys
