#include "runtime/resctrl.h"

#include <fcntl.h>
#include <gmock/gmock.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/strings.h"
#include "runtime/container.h"
#include "sys/file.h"

// resctrl is imitated by a plain folder: what is made, written and removed where.
namespace fluyt::runtime::resctrl {
namespace {

using testing::HasSubstr;

class Resctrl : public testing::Test {
 protected:
  Resctrl() : dir_(std::move(*sys::TempDir::create())) {
    for (const char* folder : {"/info", "/mon_groups", "/gold", "/gold/mon_groups"}) {
      mkdir(at(folder).c_str(), 0755);
    }
    write("/info/last_cmd_status", "ok\n");
    write("/gold/schemata", "    L3:0=0ff;1=7ff\n    MB:0=100;1= 50\n");
    root_ = *sys::open(dir_.path(), O_PATH | O_DIRECTORY);
  }
  std::string at(std::string_view below) const { return cat(dir_.path(), below); }
  void write(std::string_view below, std::string_view text) const {
    const sys::Fd fd = *sys::open(at(below), O_WRONLY | O_CREAT | O_TRUNC, 0644);
    ASSERT_TRUE(sys::write_all(fd, text).ok());
  }
  std::string text(std::string_view below) const {
    return sys::read_file(at(below), 4096).value_or("(none)");
  }

  sys::TempDir dir_;
  sys::Fd root_;
};

TEST_F(Resctrl, WithoutClosIdTheClassIsTheContainersAndGoesWithIt) {
  const oci::IntelRdt asked{
      .l3_cache_schema = "L3:0=f", .mem_bw_schema = "MB:0=20", .schemata = {"L2:0=3", "L3:0=7"}};
  auto groups = make(root_, asked, "box");
  ASSERT_TRUE(groups.ok()) << groups.error().message();
  ASSERT_TRUE(add(*groups, 42).ok());
  EXPECT_EQ(text("/box/schemata"), "L3:0=f\nMB:0=20\nL2:0=3\nL3:0=7\n");
  EXPECT_EQ(text("/box/tasks"), "42");
  // One that was there before is somebody else's.
  EXPECT_THAT(make(root_, asked, "gold").error().message(), HasSubstr("is there already"));
  // The kernel takes the files of a class away with it; here we do.
  unlink(at("/box/schemata").c_str());
  unlink(at("/box/tasks").c_str());
  ASSERT_TRUE(remove(root_, asked, "box").ok());
  EXPECT_FALSE(sys::exists(at("/box")));
  EXPECT_TRUE(remove(root_, asked, "box").ok());
}

TEST_F(Resctrl, NamedClassIsComparedAndStays) {
  oci::IntelRdt asked{.clos_id = "gold", .l3_cache_schema = "L3:1=7ff;0=ff"};
  ASSERT_TRUE(make(root_, asked, "box").ok());
  asked.mem_bw_schema = "MB:0=90";
  EXPECT_THAT(make(root_, asked, "box").error().message(),
              HasSubstr("closID: \"gold\": the class has other schemata"));
  EXPECT_EQ(text("/gold/schemata"), "    L3:0=0ff;1=7ff\n    MB:0=100;1= 50\n");
  ASSERT_TRUE(remove(root_, asked, "box").ok());
  EXPECT_TRUE(sys::exists(at("/gold")));
}

TEST_F(Resctrl, NamedClassIsMadeOnlyWithASchema) {
  const oci::IntelRdt bare{.clos_id = "silver"};
  EXPECT_THAT(make(root_, bare, "box").error().message(),
              HasSubstr("closID: \"silver\": expected a class that is there"));
  EXPECT_FALSE(sys::exists(at("/silver")));
  ASSERT_TRUE(make(root_, {.clos_id = "silver", .schemata = {"MB:0=10"}}, "box").ok());
  EXPECT_EQ(text("/silver/schemata"), "MB:0=10\n");
  ASSERT_TRUE(remove(root_, {.clos_id = "silver", .schemata = {"MB:0=10"}}, "box").ok());
  EXPECT_TRUE(sys::exists(at("/silver")));
}

TEST_F(Resctrl, SlashIsTheRootAndMonitoringHasAGroupOfItsOwn) {
  const oci::IntelRdt asked{.clos_id = "/", .enable_monitoring = true};
  auto groups = make(root_, asked, "box");
  ASSERT_TRUE(groups.ok()) << groups.error().message();
  ASSERT_TRUE(add(*groups, 7).ok());
  EXPECT_EQ(text("/tasks"), "7");
  EXPECT_EQ(text("/mon_groups/box/tasks"), "7");
  EXPECT_FALSE(make(root_, asked, "box").ok());
  ASSERT_TRUE(add(*find(root_, asked, "box"), 8).ok());
  unlink(at("/mon_groups/box/tasks").c_str());
  ASSERT_TRUE(remove(root_, asked, "box").ok());
  EXPECT_FALSE(sys::exists(at("/mon_groups/box")));
  EXPECT_TRUE(sys::exists(at("/mon_groups")));
}

TEST_F(Resctrl, NothingIsLeftWhenMonitoringCannotBe) {
  write("/info/last_cmd_status", "Out of RMIDs\n");
  // A plain folder makes no mon_groups in a new class: as where the hardware has none.
  EXPECT_THAT(make(root_, {.enable_monitoring = true}, "box").error().message(),
              HasSubstr("enableMonitoring"));
  EXPECT_FALSE(sys::exists(at("/box")));
}

TEST_F(Resctrl, UpdateWritesTheClass) {
  const oci::IntelRdt asked{.clos_id = "gold", .l3_cache_schema = "L3:0=1"};
  ASSERT_TRUE(write_schemata(root_, asked, "box").ok());
  EXPECT_THAT(text("/gold/schemata"), testing::StartsWith("L3:0=1\n"));
}

TEST(ResctrlSchemata, AreComparedByMeaning) {
  EXPECT_TRUE(schemata_match("L3:0=00ff;1=7ff\n", "L3:1=7FF;0=ff\n"));
  EXPECT_TRUE(schemata_match("    L3:0=ff\n    MB:0=100\n", "MB:0=100\n"));
  EXPECT_FALSE(schemata_match("L3:0=ff\n", "L3:0=ff;1=1\n"));
  EXPECT_FALSE(schemata_match("L3:0=ff\n", "L2:0=ff\n"));
}

TEST(ResctrlMount, IsRefusedByNameWhereThereIsNone) {
  auto opened = open_mounted();
  if (opened.ok()) GTEST_SKIP() << "this host has resctrl mounted";
  EXPECT_EQ(opened.error().code(), Code::kUnimplemented);
}

TEST(ResctrlMount, UnmountedLeavesNothingToRelease) {
  if (open_mounted().ok()) GTEST_SKIP() << "this host has resctrl mounted";
  oci::Spec spec;
  spec.linux_.emplace().intel_rdt.emplace();
  EXPECT_TRUE(release(spec, "box", "/", 0).ok());
}

}  // namespace
}  // namespace fluyt::runtime::resctrl
