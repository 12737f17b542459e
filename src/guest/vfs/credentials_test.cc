#include "guest/vfs/credentials.h"

#include <gtest/gtest.h>

#include <string>

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
  const Credentials after =
      over_exec(sailor(), {.mode = 04755, .uid = 0, .gid = 0}, secure).value();
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
      over_exec(sailor(), {.mode = 06755, .uid = 0, .gid = 0, .changes_ids = false}, secure)
          .value();
  EXPECT_FALSE(secure);
  EXPECT_EQ(after.euid, 1000U);
  EXPECT_EQ(after.egid, 1000U);
  EXPECT_EQ(after.permitted, 0U);
}

TEST(OverExec, ASetGroupIdFileNeedsTheGroupsExecuteBit) {
  bool secure = false;
  EXPECT_EQ(over_exec(sailor(), {.mode = 02745, .uid = 0, .gid = 5}, secure)->egid, 1000U);
  EXPECT_EQ(over_exec(sailor(), {.mode = 02755, .uid = 0, .gid = 5}, secure)->egid, 5U);
  EXPECT_TRUE(secure);
}

TEST(OverExec, AmbientCapabilitiesStayForAnOrdinaryFile) {
  bool secure = false;
  Credentials who = sailor();
  who.ambient = who.inheritable = 2;
  EXPECT_EQ(over_exec(who, {.mode = 0755, .uid = 0, .gid = 0}, secure)->effective, 2U);
  const Credentials after = over_exec(who, {.mode = 04755, .uid = 7, .gid = 0}, secure).value();
  EXPECT_EQ(after.ambient, 0U);
  EXPECT_EQ(after.effective, 0U);
}

constexpr std::string_view kNetBindAtOnce{"\1\0\0\2\0\4\0\0\0\0\0\0\0\0\0\0\0\0\0\0", 20};

TEST(FileCapabilities, AreReadAsLinuxKeepsThem) {
  const auto own = read_file_capabilities(kNetBindAtOnce);
  ASSERT_TRUE(own.has_value());
  EXPECT_TRUE(own->effective);
  EXPECT_EQ(own->permitted, uint64_t{1} << 10);
  EXPECT_EQ(own->inheritable, 0U);
  EXPECT_FALSE(read_file_capabilities("").has_value());
  EXPECT_FALSE(read_file_capabilities(kNetBindAtOnce.substr(0, 19)).has_value());
  // For the root of another user namespace.
  std::string others(kNetBindAtOnce);
  others[3] = 3;
  others += std::string("\1\0\0\0", 4);
  EXPECT_EQ(read_file_capabilities(others)->root, 1U);
  EXPECT_EQ(with_root(others, 0), kNetBindAtOnce);
  EXPECT_EQ(with_root(kNetBindAtOnce, 1), others);
}

TEST(OverExec, CapabilitiesOfAFileAreWithinTheBoundingSet) {
  bool secure = false;
  ExecFile file{.mode = 0755};
  file.capabilities = FileCapabilities{.permitted = 0x102, .effective = false};
  EXPECT_EQ(over_exec(sailor(), file, secure)->permitted, 2U);
  EXPECT_EQ(over_exec(sailor(), file, secure)->effective, 0U);
  EXPECT_TRUE(secure);
  file.capabilities->effective = true;
  EXPECT_EQ(over_exec(sailor(), file, secure).error().value(), EPERM);
  file.capabilities->permitted = 2;
  EXPECT_EQ(over_exec(sailor(), file, secure)->effective, 2U);
  file.changes_ids = false;
  EXPECT_EQ(over_exec(sailor(), file, secure)->permitted, 0U);
  EXPECT_FALSE(secure);
}

TEST(OverExec, RootNeedsNoCapabilitiesOfAFile) {
  bool secure = false;
  Credentials root;
  root.bounding = 0xff;
  ExecFile file{.mode = 0755};
  file.capabilities = FileCapabilities{.permitted = 2, .effective = true};
  EXPECT_EQ(over_exec(root, file, secure)->effective, 0xffU);
  EXPECT_FALSE(secure);
}

}  // namespace
}  // namespace fluyt::guest
