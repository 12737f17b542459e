#include "engine/cgroup_parent.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace fluyt::engine {
namespace {

using testing::HasSubstr;

constexpr CgroupDriver kPaths = CgroupDriver::kCgroupfs;
constexpr CgroupDriver kSlices = CgroupDriver::kSystemd;

std::string why(CgroupDriver driver, std::string_view parent) {
  auto checked = check_cgroup_parent(driver, parent);
  return checked.ok() ? "it is taken" : checked.error().message();
}

TEST(CgroupParent, IsAPathWithCgroupfs) {
  EXPECT_EQ(*parent_directory(kPaths, "/kubepods/pod1"), "/kubepods/pod1");
  EXPECT_EQ(*parent_directory(kPaths, "/kubepods/"), "/kubepods");
  EXPECT_EQ(*container_directory(kPaths, "/kubepods/pod1", "c1"), "/kubepods/pod1/c1");
  EXPECT_THAT(why(kPaths, "kubepods"), HasSubstr("\"kubepods\": expected an absolute path"));
  EXPECT_THAT(why(kPaths, "/"), HasSubstr("below the root"));
  EXPECT_THAT(why(kPaths, "/a/../b"), HasSubstr("without \"..\""));
  EXPECT_THAT(why(kPaths, "/a\nb"), HasSubstr("printable"));
}

TEST(CgroupParent, IsASliceWithSystemd) {
  const std::string path =
      "/kubepods.slice/kubepods-besteffort.slice/kubepods-besteffort-pod1.slice";
  for (const std::string& form : {std::string("kubepods-besteffort-pod1.slice"),
                                  std::string("/kubepods-besteffort-pod1.slice"), path}) {
    EXPECT_EQ(*parent_directory(kSlices, form), path) << form;
    EXPECT_EQ(slice_name(form), "kubepods-besteffort-pod1.slice") << form;
    EXPECT_EQ(*container_directory(kSlices, form, "c1"), path + "/cri-fluyt-c1.scope") << form;
  }
  EXPECT_EQ(*parent_directory(kSlices, "/test.slice"), "/test.slice");
  EXPECT_THAT(why(kSlices, "/other.slice/kubepods-pod1.slice"),
              HasSubstr("expected the slice's name alone, or its path "
                        "\"/kubepods.slice/kubepods-pod1.slice\""));
  EXPECT_THAT(why(kSlices, "-.slice"), HasSubstr("below the root"));
  EXPECT_THAT(why(kSlices, "a--b.slice"), HasSubstr("between any two dashes"));
}

TEST(CgroupParent, OfTheOtherDriverIsRefused) {
  EXPECT_THAT(why(kPaths, "/kubepods.slice/kubepods-pod1.slice"),
              HasSubstr("a slice is the systemd driver's: expected a path such as /kubepods/pod1, "
                        "as the driver is cgroupfs"));
  EXPECT_THAT(why(kSlices, "/kubepods/burstable/pod1"),
              HasSubstr("\"/kubepods/burstable/pod1\": expected a slice, such as "
                        "kubepods-burstable.slice, as the driver is systemd"));
}

TEST(CgroupParent, OfTheDefaultsAndOfMonitorsHasTheDriversForm) {
  for (const CgroupDriver driver : {kPaths, kSlices}) {
    EXPECT_EQ(why(driver, default_parent(driver)), "it is taken");
    EXPECT_EQ(why(driver, default_monitor_parent(driver)), "it is taken");
    EXPECT_EQ(*parse_cgroup_driver(name_of(driver)), driver);
  }
  EXPECT_FALSE(parse_cgroup_driver("none").ok());
}

TEST(MonitorCgroup, LiesInTheParentForMonitors) {
  Options options;
  Sandbox sandbox;
  sandbox.id = "s1";
  EXPECT_EQ(monitor_cgroups_path(options, sandbox), "/fluyt-monitors/s1");
  options.monitor_cgroup_parent = "/mine";
  EXPECT_EQ(monitor_cgroups_path(options, sandbox), "/mine/s1");
  sandbox.cgroup_driver = kSlices;
  options.monitor_cgroup_parent = "";
  EXPECT_EQ(monitor_cgroups_path(options, sandbox), "fluyt-monitors.slice:fluyt-monitor:s1");
  options.monitor_cgroup_parent = "/a.slice/a-b.slice";
  EXPECT_EQ(monitor_cgroups_path(options, sandbox), "a-b.slice:fluyt-monitor:s1");
}

TEST(CgroupParent, OfASandboxIsWhatWasInForceWhenItWasMade) {
  Options options;
  Sandbox sandbox;
  EXPECT_EQ(cgroup_parent_of(options, sandbox), "/fluyt");
  options.default_cgroup_parent = "/now";
  EXPECT_EQ(cgroup_parent_of(options, sandbox), "/now");
  sandbox.config.cgroup_parent = "/asked";
  EXPECT_EQ(cgroup_parent_of(options, sandbox), "/asked");
  sandbox.cgroup_parent = "then.slice";
  EXPECT_EQ(cgroup_parent_of(options, sandbox), "then.slice");
}

}  // namespace
}  // namespace fluyt::engine
