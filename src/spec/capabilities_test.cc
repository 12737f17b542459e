#include "spec/capabilities.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace fluyt::spec {
namespace {

using testing::Contains;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;
using testing::Not;
using Names = std::vector<std::string>;

Names all() { return {all_capabilities().begin(), all_capabilities().end()}; }

oci::Capabilities sets(const Names& add, const Names& drop, const Names& ambient = {}) {
  auto result = capability_sets(add, drop, ambient, all());
  EXPECT_TRUE(result.ok()) << result.error().message();
  return result.ok() ? *result : oci::Capabilities{};
}

TEST(Capabilities, TheDefaultIsFourteen) {
  const auto usual = sets({}, {});
  EXPECT_EQ(usual.bounding.size(), 14U);
  EXPECT_EQ(usual.bounding, usual.effective);
  EXPECT_EQ(usual.bounding, usual.permitted);
  EXPECT_THAT(usual.inheritable, IsEmpty());  // CVE-2022-24769
  EXPECT_THAT(usual.ambient, IsEmpty());
  EXPECT_THAT(usual.bounding, Not(Contains("CAP_SYS_ADMIN")));
}

TEST(Capabilities, NamesAreTakenInAnySpelling) {
  EXPECT_EQ(*capability_name("net_admin"), "CAP_NET_ADMIN");
  EXPECT_EQ(*capability_name("CAP_NET_ADMIN"), "CAP_NET_ADMIN");
  EXPECT_EQ(*capability_name("cap_Net_Admin"), "CAP_NET_ADMIN");
}

TEST(Capabilities, UnknownNamesAreRefusedWithTheirPlace) {
  const auto added = capability_sets({"KILL", "NET_ADMINN"}, {}, {}, all());
  ASSERT_FALSE(added.ok());
  EXPECT_THAT(added.error().message(), HasSubstr("add_capabilities[1]: \"NET_ADMINN\""));
  EXPECT_FALSE(capability_sets({}, {"CAP_"}, {}, all()).ok());
  EXPECT_FALSE(capability_sets({}, {}, {""}, all()).ok());
  EXPECT_FALSE(capability_sets({"CAP_CAP_KILL"}, {}, {}, all()).ok());
}

TEST(Capabilities, AllComesBeforeSingleOnes) {
  EXPECT_EQ(sets({"ALL"}, {}).bounding.size(), 41U);
  EXPECT_THAT(sets({"all"}, {"CHOWN"}).bounding, Not(Contains("CAP_CHOWN")));
  EXPECT_THAT(sets({"NET_BIND_SERVICE"}, {"ALL"}).bounding, ElementsAre("CAP_NET_BIND_SERVICE"));
  EXPECT_THAT(sets({"ALL"}, {"ALL"}).bounding, IsEmpty());
}

TEST(Capabilities, AllIsWhatTheHostHas) {
  const auto few = capability_sets({"ALL"}, {}, {}, {"CAP_KILL"});
  EXPECT_THAT(few->bounding, ElementsAre("CAP_KILL"));
}

TEST(Capabilities, ADropWinsOverAnAddition) {
  EXPECT_THAT(sets({"SYS_TIME"}, {"SYS_TIME"}).bounding, Not(Contains("CAP_SYS_TIME")));
  EXPECT_THAT(sets({}, {"SYS_TIME"}, {"SYS_TIME"}).ambient, IsEmpty());
}

TEST(Capabilities, AmbientOnesAreInAllFiveSets) {
  const auto raised = sets({}, {"ALL"}, {"SYS_TIME"});
  for (const Names* names : {&raised.bounding, &raised.effective, &raised.inheritable,
                             &raised.permitted, &raised.ambient}) {
    EXPECT_THAT(*names, ElementsAre("CAP_SYS_TIME"));
  }
}

TEST(Capabilities, AnAdditionTwiceIsThereOnce) {
  EXPECT_EQ(sets({"SYS_TIME", "CAP_SYS_TIME", "KILL"}, {}).bounding.size(), 15U);
}

}  // namespace
}  // namespace fluyt::spec
