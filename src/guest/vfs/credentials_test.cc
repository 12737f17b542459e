#include "guest/vfs/credentials.h"

#include <gtest/gtest.h>

namespace fluyt::guest {
namespace {

Credentials sailor() {
  Credentials who;
  who.uid = who.euid = who.suid = who.fsuid = 1000;
  who.gid = who.egid = who.sgid = who.fsgid = 1000;
  who.bounding = 0xff;
  who.permitted = who.effective = who.inheritable = 0;
  who.ambient = 0;
  return who;
}

TEST(OverExec, ASetUserIdFileOfRootsGivesTheBoundingSet) {
  bool secure = false;
  const Credentials after = over_exec(sailor(), {.mode = 04755, .uid = 0, .gid = 0}, secure);
  EXPECT_TRUE(secure);
  EXPECT_EQ(after.uid, 1000U);
  EXPECT_EQ(after.euid, 0U);
  EXPECT_EQ(after.suid, 0U);
  EXPECT_EQ(after.fsuid, 0U);
  EXPECT_EQ(after.permitted, 0xffU);
  EXPECT_EQ(after.effective, 0xffU);
}

TEST(OverExec, WhereIdsDoNotChangeTheBitsAreNothing) {
  bool secure = true;
  const Credentials after =
      over_exec(sailor(), {.mode = 06755, .uid = 0, .gid = 0, .changes_ids = false}, secure);
  EXPECT_FALSE(secure);
  EXPECT_EQ(after.euid, 1000U);
  EXPECT_EQ(after.egid, 1000U);
  EXPECT_EQ(after.permitted, 0U);
}

TEST(OverExec, ASetGroupIdFileNeedsTheGroupsExecuteBit) {
  bool secure = false;
  EXPECT_EQ(over_exec(sailor(), {.mode = 02745, .uid = 0, .gid = 5}, secure).egid, 1000U);
  EXPECT_EQ(over_exec(sailor(), {.mode = 02755, .uid = 0, .gid = 5}, secure).egid, 5U);
  EXPECT_TRUE(secure);
}

TEST(OverExec, AmbientCapabilitiesStayForAnOrdinaryFile) {
  bool secure = false;
  Credentials who = sailor();
  who.ambient = who.inheritable = 2;
  EXPECT_EQ(over_exec(who, {.mode = 0755, .uid = 0, .gid = 0}, secure).effective, 2U);
  const Credentials after = over_exec(who, {.mode = 04755, .uid = 7, .gid = 0}, secure);
  EXPECT_EQ(after.ambient, 0U);
  EXPECT_EQ(after.effective, 0U);
}

}  // namespace
}  // namespace fluyt::guest
