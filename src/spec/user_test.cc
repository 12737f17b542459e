#include "spec/user.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "base/strings.h"

namespace fluyt::spec {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;

const UserFiles kFiles{.passwd =
                           "root:x:0:0:root:/root:/bin/sh\n"
                           "# a comment\n"
                           "\n"
                           "broken line\n"
                           "toofew:x:1:1\n"
                           "badid:x:abc:1::/:/bin/sh\n"
                           "huge:x:4294967296:1::/:/bin/sh\n"
                           "top:x:2147483647:1::/:/bin/sh\n"
                           "app:x:1000:1001:App:/home/app:/bin/sh\n"
                           "app:x:7:7:a second one:/seven:/bin/sh\n"
                           "1000:x:5:5:a name of digits:/five:/bin/sh\n"
                           "evil:x:1002:1002::/home/x\x01y:/bin/sh\n"
                           "relative:x:1003:1003::home:/bin/sh\n"
                           "last:x:1004:1005::/home/last:/bin/sh",
                       .group =
                           "root:x:0:\n"
                           "wheel:x:10:app,last\n"
                           "broken\n"
                           "dup:x:10:app\n"
                           "big:x:4294967296:app\n"
                           "1001:x:6:app\n"
                           "audio:x:29:root,app\n"
                           "staff:x:50:application\n"};

std::string why(const Result<Identity>& result) {
  return result.ok() ? "taken" : result.error().message();
}

TEST(ResolveUser, NobodyNamedIsRoot) {
  const auto identity = resolve_user("", kFiles);
  ASSERT_TRUE(identity.ok());
  EXPECT_EQ(identity->uid, 0U);
  EXPECT_THAT(identity->groups, ElementsAre(0, 29));
  EXPECT_EQ(identity->home, "/root");
}

TEST(ResolveUser, ANameBringsItsGroupsAndHome) {
  const auto identity = resolve_user("app", kFiles);
  ASSERT_TRUE(identity.ok());
  EXPECT_EQ(identity->uid, 1000U);
  EXPECT_EQ(identity->gid, 1001U);
  EXPECT_THAT(identity->groups, ElementsAre(6, 10, 29, 1001));
  EXPECT_EQ(identity->home, "/home/app");
}

TEST(ResolveUser, TheLastLineNeedsNoNewline) {
  EXPECT_EQ(resolve_user("last", kFiles)->uid, 1004U);
}

TEST(ResolveUser, DigitsAreAnIdAndNeverAName) {
  EXPECT_EQ(resolve_user("1000", kFiles)->uid, 1000U);    // not 5, as the user "1000" has
  EXPECT_EQ(resolve_user("0:1001", kFiles)->gid, 1001U);  // not 6, as the group "1001" has
}

TEST(ResolveUser, AnUnknownIdHasGroupZero) {
  const auto identity = resolve_user("4242", kFiles);
  ASSERT_TRUE(identity.ok());
  EXPECT_EQ(identity->uid, 4242U);
  EXPECT_EQ(identity->gid, 0U);
  EXPECT_THAT(identity->groups, ElementsAre(0));
  EXPECT_EQ(identity->home, "/");
}

TEST(ResolveUser, ThePrimaryGroupIsAlwaysASupplementaryOne) {  // CVE-2022-2995
  EXPECT_THAT(resolve_user("4242:4343", {})->groups, ElementsAre(4343));
  EXPECT_THAT(resolve_user("app:staff", kFiles)->groups, ElementsAre(50));
}

TEST(ResolveUser, AHomeThatCouldInjectALineIsNotUsed) {  // CVE-2022-4318
  EXPECT_EQ(resolve_user("evil", kFiles)->home, "/");
  EXPECT_EQ(resolve_user("relative", kFiles)->home, "/");
}

TEST(ResolveUser, RefusesWhatIsNotExactlyAUserAndAGroup) {
  const std::pair<const char*, const char*> cases[] = {
      {":", "expected user or user:group"},
      {":0", "expected user or user:group"},
      {"0:", "expected user or user:group"},
      {"0:0:0", "expected user or user:group"},
      {"nobody", "\"nobody\": expected a name in the image's /etc/passwd"},
      {"app:nogroup", "\"nogroup\": expected a name in the image's /etc/group"},
      {"-1", "expected a name or an id"},
      {"+1", "expected a name in"},
      {"0x0", "expected a name in"},
      {" 0", "expected a name or an id"},
      {"0 ", "expected a name or an id"},
      {"1000\n", "expected a name or an id"},
      {"2147483647", "expected an id up to 2147483646"},
      {"4294967296", "expected an id up to 2147483646"},
      {"18446744073709551616", "expected an id up to 2147483646"},
      {"0:4294967295", "expected an id up to 2147483646"},
      {"badid", "expected a name in"},
      {"huge", "expected a name in"},
      {"top", "expected a name in"},
      {"toofew", "expected a name in"},
  };
  for (const auto& [text, expected] : cases) {
    EXPECT_THAT(why(resolve_user(text, kFiles)), HasSubstr(expected)) << text;
  }
}

TEST(ResolveUser, TheLargestIdIsTaken) { EXPECT_EQ(resolve_user("2147483646", {})->uid, kMaxId); }

TEST(ResolveUser, WhatIsBeyondTheLimitIsNotRead) {
  UserFiles files;
  files.passwd = std::string(kMaxUserFileBytes, '\n') + "late:x:5:5::/:/bin/sh\n";
  EXPECT_FALSE(resolve_user("late", files).ok());
  files.passwd = "long:x:5:5:" + std::string(70000, 'g') + ":/:/bin/sh\nshort:x:6:6::/:/bin/sh\n";
  EXPECT_FALSE(resolve_user("long", files).ok());
  EXPECT_EQ(resolve_user("short", files)->uid, 6U);
}

TEST(ResolveRequest, LeftOutIsTheImagesUser) {
  EXPECT_EQ(resolve_user(UserRequest{}, "app", kFiles)->uid, 1000U);
  EXPECT_EQ(resolve_user(UserRequest{}, "app:wheel", kFiles)->gid, 10U);
  EXPECT_EQ(resolve_user(UserRequest{}, "", kFiles)->uid, 0U);
  EXPECT_THAT(why(resolve_user(UserRequest{}, "ghost", kFiles)),
              HasSubstr("image config: user: \"ghost\""));
}

TEST(ResolveRequest, AsksOverTheImage) {
  const UserRequest by_id{.run_as_user = 1004, .run_as_group = 77};
  const auto identity = resolve_user(by_id, "app", kFiles);
  ASSERT_TRUE(identity.ok());
  EXPECT_EQ(identity->uid, 1004U);
  EXPECT_EQ(identity->gid, 77U);
  EXPECT_THAT(identity->groups, ElementsAre(10, 77));
  EXPECT_EQ(resolve_user(UserRequest{.run_as_username = "app"}, "", kFiles)->uid, 1000U);
}

TEST(ResolveRequest, MergeTakesTheImagesGroupsAndStrictDoesNot) {
  UserRequest request{.run_as_user = 1000, .supplemental_groups = {900, 29}};
  EXPECT_THAT(resolve_user(request, "", kFiles)->groups, ElementsAre(6, 10, 29, 900, 1001));
  request.groups_policy = GroupsPolicy::kStrict;
  EXPECT_THAT(resolve_user(request, "", kFiles)->groups, ElementsAre(29, 900, 1001));
}

TEST(ResolveRequest, RefusesByField) {
  EXPECT_THAT(why(resolve_user(UserRequest{.run_as_group = 5}, "app", kFiles)),
              HasSubstr("run_as_group: 5: expected run_as_user"));
  EXPECT_THAT(why(resolve_user(UserRequest{.run_as_user = -1}, "", kFiles)),
              HasSubstr("run_as_user: -1: expected an id"));
  EXPECT_THAT(why(resolve_user(UserRequest{.run_as_user = 4294967296}, "", kFiles)),
              HasSubstr("run_as_user: 4294967296"));
  EXPECT_THAT(why(resolve_user(UserRequest{.run_as_user = 1, .run_as_group = -5}, "", kFiles)),
              HasSubstr("run_as_group: -5"));
  EXPECT_THAT(why(resolve_user(UserRequest{.supplemental_groups = {1, -2}}, "", kFiles)),
              HasSubstr("supplemental_groups[1]: -2"));
  EXPECT_THAT(why(resolve_user(UserRequest{.run_as_username = "ghost"}, "", kFiles)),
              HasSubstr("run_as_username: user: \"ghost\""));
  EXPECT_THAT(why(resolve_user(UserRequest{.run_as_username = "app:0"}, "", kFiles)),
              HasSubstr("without group"));
}

}  // namespace
}  // namespace fluyt::spec
