#include "spec/cdi.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstdlib>
#include <fstream>
#include <sstream>

#include "base/strings.h"

namespace fluyt::spec::cdi {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;

Found found(const std::string& path, size_t folder, const std::string& kind,
            std::vector<std::string> devices) {
  Found out{path, folder, {.kind = kind, .devices = {}, .edits = {}}};
  out.file.edits.env = {"FILE=" + path};
  for (std::string& name : devices) {
    oci::cdi::Device device{.name = name, .edits = {}};
    device.edits.env = {cat("DEVICE_", name, "=", path)};
    out.file.devices.push_back(std::move(device));
  }
  return out;
}

TEST(EditsOf, WhatAFileAddsForAllComesOnce) {
  const std::vector<Found> files = {found("/etc/a", 0, "v.com/a", {"0", "1"}),
                                    found("/etc/b", 0, "v.com/b", {"0"})};
  const auto edits = edits_of(files, {"v.com/a=1", "v.com/b=0", "v.com/a=0", "v.com/a=1"});
  ASSERT_TRUE(edits.ok()) << edits.error().message();
  EXPECT_THAT(edits->env, ElementsAre("FILE=/etc/a", "DEVICE_1=/etc/a", "FILE=/etc/b",
                                      "DEVICE_0=/etc/b", "DEVICE_0=/etc/a"));
}

TEST(EditsOf, TheLaterFolderWinsAndTwoInOneAreAConflict) {
  std::vector<Found> files = {found("/etc/a", 0, "v.com/a", {"0", "1"}),
                              found("/run/a", 1, "v.com/a", {"0"})};
  EXPECT_THAT(edits_of(files, {"v.com/a=0"})->env, ElementsAre("FILE=/run/a", "DEVICE_0=/run/a"));
  EXPECT_THAT(edits_of(files, {"v.com/a=1"})->env, ElementsAre("FILE=/etc/a", "DEVICE_1=/etc/a"));
  files.push_back(found("/run/b", 1, "v.com/a", {"0"}));
  const auto conflict = edits_of(files, {"v.com/a=1", "v.com/a=0"});
  ASSERT_FALSE(conflict.ok());
  EXPECT_EQ(conflict.error().code(), Code::kFailedPrecondition);
  EXPECT_THAT(conflict.error().message(),
              HasSubstr("CDI_devices[1].name: \"v.com/a=0\": is both in /run/a and in /run/b"));
  // A third one in a later folder settles it.
  files.push_back(found("/last", 2, "v.com/a", {"0"}));
  EXPECT_TRUE(edits_of(files, {"v.com/a=0"}).ok());
}

TEST(EditsOf, AMissingDeviceIsNamed) {
  const std::vector<Found> files = {found("/etc/a", 0, "v.com/a", {"0"})};
  for (const char* name : {"v.com/a=2", "v.com/b=0", "nonsense"}) {
    const auto edits = edits_of(files, {"v.com/a=0", name});
    ASSERT_FALSE(edits.ok()) << name;
    EXPECT_EQ(edits.error().code(), Code::kInvalidArgument);
    EXPECT_THAT(edits.error().message(), HasSubstr(cat("CDI_devices[1].name: \"", name, "\"")));
  }
}

oci::Spec ordinary() {
  oci::Spec spec;
  spec.process.emplace();
  spec.process->env = {"PATH=/bin", "OLD=1"};
  spec.process->user = {.uid = 1000, .gid = 2000, .additional_gids = {2000}};
  spec.linux_.emplace();
  spec.linux_->resources.emplace();
  spec.linux_->resources->devices = {{.allow = false, .access = "rwm"}};
  spec.mounts = {{.destination = "/proc", .type = "proc", .source = "proc"},
                 {.destination = "/data/deep", .type = "bind", .source = "/d"}};
  return spec;
}

TEST(Apply, EverythingOfADevice) {
  oci::cdi::ContainerEdits edits;
  edits.env = {"NEW=2", "OLD=2"};
  edits.device_nodes = {
      {.path = "/dev/gpu0", .type = "c", .major = 195, .minor = 0, .file_mode = 0660, .uid = 0},
      {.path = "/dev/gpu1", .type = "b", .major = 8, .minor = 1, .permissions = "r", .gid = 44},
      {.path = "/dev/shown", .type = "u", .major = 1, .minor = 3, .permissions = "none"},
      {.path = "/dev/fifo", .type = "p", .major = 0, .minor = 0}};
  edits.mounts = {
      {.destination = "/data", .type = "bind", .source = "/x", .options = {"ro", "rbind"}},
      {.destination = "/data/deep", .type = "tmpfs", .source = "tmpfs"}};
  edits.hooks.create_container = {
      {.path = "/hook", .args = {"hook", "x"}, .env = {"A=b"}, .timeout = 3}};
  edits.hooks.poststop = {{.path = "/after"}};
  edits.additional_gids = {0, 44, 2000, 44};
  edits.intel_rdt = oci::IntelRdt{.clos_id = "c"};
  edits.net_devices = {{"eth9", "net0"}};
  oci::Spec spec = ordinary();
  ASSERT_TRUE(apply(edits, spec).ok());

  const std::string path = FLUYT_TESTDATA "/cdi.json";
  const std::string text = oci::to_pretty_json(spec) + "\n";
  if (std::getenv("FLUYT_REWRITE_GOLDEN") != nullptr) std::ofstream(path) << text;
  std::ifstream file(path);
  EXPECT_TRUE(file.good()) << path;
  std::stringstream recorded;
  recorded << file.rdbuf();
  EXPECT_EQ(text, recorded.str());
}

TEST(Apply, ANodeTakesThePlaceOfOneThatIsThere) {
  oci::Spec spec = ordinary();
  spec.linux_->devices = {{.path = "/dev/x", .type = 'c', .major = 1, .minor = 5}};
  oci::cdi::ContainerEdits edits;
  edits.device_nodes = {{.path = "/dev/x", .type = "c", .major = 1, .minor = 3}};
  ASSERT_TRUE(apply(edits, spec).ok());
  ASSERT_EQ(spec.linux_->devices.size(), 1U);
  EXPECT_EQ(spec.linux_->devices[0].minor, 3);
  EXPECT_EQ(spec.linux_->devices[0].uid, 1000U);
  edits.device_nodes[0].minor.reset();
  EXPECT_EQ(apply(edits, spec).error().code(), Code::kInternal);
}

TEST(Apply, NothingChangesNothing) {
  oci::Spec spec = ordinary();
  ASSERT_TRUE(apply({}, spec).ok());
  EXPECT_EQ(spec, ordinary());
}

}  // namespace
}  // namespace fluyt::spec::cdi
