#include "guest/vfs/user_space.h"

#include <gtest/gtest.h>

#include <string>

#include "guest/vfs/credentials.h"
#include "guest/vfs/tree.h"

namespace fluyt::guest {
namespace {

using Extents = std::vector<IdMap::Extent>;

TEST(IdMap, ReadsWhatIsWrittenToAMapFile) {
  EXPECT_EQ(IdMap::parse("0 1000 1").value().extents(), (Extents{{0, 1000, 1}}));
  EXPECT_EQ(IdMap::parse("0 1000 1\n").value().extents(), (Extents{{0, 1000, 1}}));
  EXPECT_EQ(IdMap::parse("  0\t 1000  1 \n1 5 2\n").value().extents(),
            (Extents{{0, 1000, 1}, {1, 5, 2}}));
  EXPECT_EQ(IdMap::parse("0 0 4294967295").value().extents(), (Extents{{0, 0, 4294967295}}));
}

TEST(IdMap, RefusesWhatIsNone) {
  for (const char* text :
       {"", "\n", "0", "0 1", "0 1 ", "0 1 0", "0 1 1 1", "0 1 x", "x 1 1", "0 1 1x", "0 1 1\n\n",
        "4294967295 0 1", "0 4294967295 1", "0 4294967294 2", "0 0 4294967296", "-1 0 1"})
    EXPECT_EQ(IdMap::parse(text).error(), Errno(EINVAL)) << text;
}

TEST(IdMap, RefusesOverlapsOnEitherSide) {
  EXPECT_EQ(IdMap::parse("0 10 5\n4 100 1").error(), Errno(EINVAL));
  EXPECT_EQ(IdMap::parse("0 10 5\n5 14 1").error(), Errno(EINVAL));
  EXPECT_TRUE(IdMap::parse("0 10 5\n5 15 1").ok());
}

TEST(IdMap, HasAtMost340Lines) {
  std::string text;
  for (int i = 0; i < 340; ++i) text += std::to_string(i) + " " + std::to_string(i) + " 1\n";
  EXPECT_EQ(IdMap::parse(text).value().extents().size(), 340U);
  text += "340 340 1\n";
  EXPECT_EQ(IdMap::parse(text).error(), Errno(EINVAL));
}

TEST(IdMap, LeadsBothWays) {
  const IdMap map({{0, 1000, 10}, {20, 5000, 2}});
  EXPECT_EQ(map.down(9), 1009U);
  EXPECT_EQ(map.down(10), kNoId);
  EXPECT_EQ(map.down(8, 2), 1008U);
  EXPECT_EQ(map.down(9, 2), kNoId);
  EXPECT_EQ(map.up(5001), 21U);
  EXPECT_EQ(map.up(0), kNoId);
  EXPECT_EQ(map.up(kNoId), kNoId);
}

TEST(IdMap, LiesWithinAnother) {
  const IdMap outer({{0, 1000, 10}});
  EXPECT_EQ(IdMap({{5, 2, 3}}).within(outer)->extents(), (Extents{{5, 1002, 3}}));
  EXPECT_FALSE(IdMap({{5, 8, 3}}).within(outer));
}

class UserSpaceTest : public testing::Test {
 protected:
  static Credentials sailor(uint32_t id) {
    Credentials who;
    who.uid = who.euid = who.suid = who.fsuid = id;
    who.gid = who.egid = who.sgid = who.fsgid = id;
    who.permitted = who.effective = 0;
    return who;
  }
  UserSpacePtr outer = std::make_shared<UserSpace>(nullptr, 1, 1000, 1000, false);
  UserSpacePtr inner = std::make_shared<UserSpace>(outer, 2, 1000, 1000, false);
};

TEST_F(UserSpaceTest, AMapIsSetOnce) {
  EXPECT_EQ(outer->kernel_uid(0), kNoId);
  EXPECT_TRUE(outer->set_map(UserSpace::kUsers, IdMap({{0, 1000, 1}})).ok());
  EXPECT_EQ(outer->set_map(UserSpace::kUsers, IdMap({{0, 0, 1}})), Errno(EPERM));
  EXPECT_EQ(outer->kernel_uid(0), 1000U);
  EXPECT_EQ(outer->uid_of(1000), 0U);
  EXPECT_EQ(outer->kernel_gid(0), kNoId);
}

TEST_F(UserSpaceTest, GroupsAreDeniedForGood) {
  EXPECT_FALSE(outer->may_set_groups());
  EXPECT_TRUE(outer->set_allows_groups(true).ok());
  EXPECT_TRUE(outer->set_allows_groups(false).ok());
  EXPECT_EQ(outer->set_allows_groups(true), Errno(EPERM));
  EXPECT_TRUE(outer->set_map(UserSpace::kGroups, IdMap({{0, 1000, 1}})).ok());
  EXPECT_FALSE(outer->may_set_groups());
  // Who is born below such a one has none either.
  EXPECT_FALSE(UserSpace(outer, 3, 0, 0, false).allows_groups());
}

TEST_F(UserSpaceTest, GroupsAreNotDeniedBehindTheirMap) {
  EXPECT_TRUE(outer->set_map(UserSpace::kGroups, IdMap({{0, 1000, 1}})).ok());
  EXPECT_EQ(outer->set_allows_groups(false), Errno(EPERM));
  EXPECT_TRUE(outer->may_set_groups());
}

TEST_F(UserSpaceTest, CapabilitiesHoldWhereTheyAreAndBelow) {
  Credentials who = sailor(0);
  who.user = outer;
  who.effective = Credentials::kAllCapabilities;
  EXPECT_FALSE(who.can(kCapSysAdmin));
  EXPECT_TRUE(who.can_in(kCapSysAdmin, outer.get()));
  EXPECT_TRUE(who.can_in(kCapSysAdmin, inner.get()));
  who.user = inner;
  EXPECT_FALSE(who.can_in(kCapSysAdmin, outer.get()));
  const auto beside = std::make_shared<UserSpace>(nullptr, 3, 0, 0, false);
  EXPECT_FALSE(who.can_in(kCapSysAdmin, beside.get()));
}

TEST_F(UserSpaceTest, ItsOwnerHasAllOfThemFromOutside) {
  EXPECT_TRUE(sailor(1000).can_in(kCapSysAdmin, outer.get()));
  EXPECT_TRUE(sailor(1000).can_in(kCapSysAdmin, inner.get()));
  EXPECT_FALSE(sailor(1001).can_in(kCapSysAdmin, outer.get()));
  EXPECT_FALSE(sailor(1000).can_in(kCapSysAdmin, nullptr));
  // Not from a namespace that is not the one above it.
  Credentials who = sailor(1000);
  who.user = std::make_shared<UserSpace>(nullptr, 4, 1000, 1000, false);
  EXPECT_FALSE(who.can_in(kCapSysAdmin, outer.get()));
}

TEST_F(UserSpaceTest, FilesOfWhoIsNotThereAreOutOfReach) {
  EXPECT_TRUE(outer->set_map(UserSpace::kUsers, IdMap({{0, 1000, 1}})).ok());
  EXPECT_TRUE(outer->set_map(UserSpace::kGroups, IdMap({{0, 1000, 1}})).ok());
  Credentials root = sailor(1000);
  root.user = outer;
  root.effective = Credentials::kAllCapabilities;
  Stat file;
  file.mode = S_IFREG | 0400;
  file.uid = file.gid = 0;
  EXPECT_EQ(may_access(root, file, 4), Errno(EACCES));
  file.uid = 1000;
  file.gid = 1000;
  EXPECT_EQ(may_access(root, file, 2), kOk);
  file.gid = 5;
  EXPECT_EQ(may_access(root, file, 2), Errno(EACCES));
}

TEST_F(UserSpaceTest, RootOfANamespaceExecutesWithAllCapabilities) {
  EXPECT_TRUE(outer->set_map(UserSpace::kUsers, IdMap({{0, 1000, 1}})).ok());
  EXPECT_TRUE(outer->set_map(UserSpace::kGroups, IdMap({{0, 1000, 1}})).ok());
  Credentials root = sailor(1000);
  root.user = outer;
  bool secure = false;
  EXPECT_EQ(over_exec(root, {.mode = 0755}, secure).value().effective,
            Credentials::kAllCapabilities);
  root.user = inner;  // where nobody is root yet
  EXPECT_EQ(over_exec(root, {.mode = 0755}, secure).value().effective, 0U);
}

TEST_F(UserSpaceTest, SetUserIdFilesOfWhoIsNotThereChangeNothing) {
  EXPECT_TRUE(outer->set_map(UserSpace::kUsers, IdMap({{0, 1000, 2}})).ok());
  EXPECT_TRUE(outer->set_map(UserSpace::kGroups, IdMap({{0, 1000, 2}})).ok());
  Credentials who = sailor(1000);
  who.user = outer;
  bool secure = false;
  EXPECT_EQ(over_exec(who, {.mode = 04755, .uid = 0, .gid = 0}, secure).value().euid, 1000U);
  EXPECT_EQ(over_exec(who, {.mode = 04755, .uid = 1001, .gid = 0}, secure).value().euid, 1000U);
  EXPECT_EQ(over_exec(who, {.mode = 04755, .uid = 1001, .gid = 1000}, secure).value().euid, 1001U);
  EXPECT_TRUE(secure);
}

TEST_F(UserSpaceTest, CapabilitiesOfAFileAreForTheRootThatTheyName) {
  EXPECT_TRUE(outer->set_map(UserSpace::kUsers, IdMap({{0, 1000, 1}})).ok());
  Credentials who = sailor(1000);
  const FileCapabilities of_first{.root = 0};
  const FileCapabilities of_outer{.root = 1000};
  EXPECT_TRUE(applies(of_first, who));
  EXPECT_FALSE(applies(of_outer, who));
  who.user = outer;
  EXPECT_TRUE(applies(of_first, who));
  EXPECT_TRUE(applies(of_outer, who));
}

}  // namespace
}  // namespace fluyt::guest
