#include "runtime/cgroup/systemd_name.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "base/strings.h"

namespace fluyt::runtime::cgroup::systemd {
namespace {

using ::testing::HasSubstr;

ScopePath path_of(std::string_view text, std::string_view id = "c1") {
  auto path = scope_path(text, id, "system.slice");
  EXPECT_TRUE(path.ok()) << path.error().message();
  return path.ok() ? std::move(*path) : ScopePath{};
}

TEST(ScopePathOf, ThreePartsNameAScopeInASlice) {
  EXPECT_EQ(path_of("machine-a.slice:pre:n1"),
            (ScopePath{.slice = "machine-a.slice",
                       .unit = "pre-n1.scope",
                       .path = "/machine.slice/machine-a.slice/pre-n1.scope"}));
  EXPECT_EQ(path_of("a.slice::n1").unit, "n1.scope");
  EXPECT_EQ(path_of("-.slice:p:n").path, "/p-n.scope");
  EXPECT_EQ(path_of("user.slice:p:a.b_c\\x2d").path, "/user.slice/p-a.b_c\\x2d.scope");
}

TEST(ScopePathOf, EmptyPartsHaveDefaults) {
  EXPECT_EQ(path_of("").path, "/system.slice/runf-c1.scope");
  EXPECT_EQ(path_of(":p:n").path, "/system.slice/p-n.scope");
  // A container's id may have a "+", which is no character of a unit's name.
  EXPECT_EQ(path_of("", "a+b").unit, "runf-a\\x2bb.scope");
}

TEST(ScopePathOf, RefusesByField) {
  for (const std::string& bad :
       {std::string("/a/b"), std::string("a:b"), std::string("a.slice:b:c:d"),
        std::string("a.slice:b:"), std::string("a:b:c"), std::string("a--b.slice:p:n"),
        std::string("-a.slice:p:n"), std::string(".slice:p:n"), std::string("a/b.slice:p:n"),
        std::string("a.slice:p:n/../m"), std::string("a.slice:p:n m"), std::string("a.slice:p@:n"),
        std::string("a.slice:p:n.slice"), std::string("a.slice::.n"), std::string("a.slice:p:\n"),
        "a.slice:p:" + std::string(255, 'n')}) {
    const auto path = scope_path(bad, "c1", "system.slice");
    ASSERT_FALSE(path.ok()) << quote(bad);
    EXPECT_EQ(path.error().code(), Code::kInvalidArgument) << quote(bad);
    EXPECT_THAT(path.error().message(), HasSubstr("cgroupsPath")) << quote(bad);
  }
  EXPECT_THAT(scope_path("/a", "c1", "system.slice").error().message(),
              HasSubstr("expected cgroupsPath to be of format \"slice:prefix:name\""));
}

TEST(ExpandSlice, EveryDashIsALevel) {
  EXPECT_EQ(expand_slice("a.slice").value(), "/a.slice");
  EXPECT_EQ(expand_slice("a-b-c.slice").value(), "/a.slice/a-b.slice/a-b-c.slice");
  EXPECT_EQ(expand_slice("-.slice").value(), "");
}

TEST(UnitObject, IsEscaped) {
  EXPECT_EQ(unit_object("runf-a.scope"), "/org/freedesktop/systemd1/unit/runf_2da_2escope");
  EXPECT_EQ(unit_object("1a"), "/org/freedesktop/systemd1/unit/_31a");
}

TEST(Version, IsTheFirstNumber) {
  EXPECT_EQ(parse_version("252.39-1~deb12u1"), 252);
  EXPECT_EQ(parse_version("v249"), 249);
  EXPECT_EQ(parse_version("257"), 257);
  EXPECT_EQ(parse_version("none"), 0);
}

}  // namespace
}  // namespace fluyt::runtime::cgroup::systemd
