#include "sys/relabel.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/mount.h>
#include <sys/xattr.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <memory>

#include "base/strings.h"
#include "sys/file.h"

namespace fluyt::sys {
namespace {

using ::testing::Contains;
using ::testing::HasSubstr;

constexpr const char* kLabel = "system_u:object_r:container_file_t:s0:c1,c2";

// Of a host without SELinux: there the attribute is bytes that root alone may write.
std::string label_of(const std::string& path) {
  std::array<char, 256> text{};
  const ssize_t size = lgetxattr(path.c_str(), "security.selinux", text.data(), text.size() - 1);
  return size > 0 ? text.data() : "";
}

class Relabel : public ::testing::Test {
 protected:
  void SetUp() override {
    if (exists("/sys/fs/selinux/enforce"))
      GTEST_SKIP() << "this host's policy has labels of its own";
    folder_ = std::make_unique<TempDir>(TempDir::create().value());
    // Of our own: what the disk is may have no attributes.
    if (mount("none", folder_->path().c_str(), "tmpfs", 0, nullptr) != 0) {
      mounted_ = false;
      GTEST_SKIP() << "mount(tmpfs): needs root";
    }
    ASSERT_TRUE(make_dirs(path("volume/a/b"), 0755).ok());
    ASSERT_TRUE(make_dirs(path("outside"), 0755).ok());
    for (const char* name : {"volume/file", "volume/a/b/deep", "outside/file"})
      ASSERT_TRUE(write_file_atomic(kCwd, path(name), "x", 0600).ok());
  }
  void TearDown() override {
    if (!folder_ || !mounted_) return;
    umount2(path("volume/a/below").c_str(), MNT_DETACH);
    umount2(folder_->path().c_str(), MNT_DETACH);
  }
  std::string path(const std::string& name) const { return cat(folder_->path(), "/", name); }
  std::string label(const std::string& name) const { return label_of(path(name)); }
  bool mounted_ = true;
  std::unique_ptr<TempDir> folder_;
};

TEST_F(Relabel, ReachesEverythingBelowAndNothingElse) {
  ASSERT_EQ(symlink("../outside/file", path("volume/out").c_str()), 0);
  ASSERT_EQ(symlink("../outside", path("volume/out-dir").c_str()), 0);
  const auto done = relabel(path("volume"), kLabel);
  ASSERT_TRUE(done.ok()) << done.error().message();
  for (const char* name : {"volume", "volume/a", "volume/a/b", "volume/a/b/deep", "volume/file",
                           "volume/out", "volume/out-dir"}) {
    EXPECT_EQ(label(name), kLabel) << name;
  }
  EXPECT_EQ(label("outside"), "");
  EXPECT_EQ(label("outside/file"), "");
}

TEST_F(Relabel, AFileAloneAndALinkOnTheWay) {
  ASSERT_EQ(symlink("volume", path("link").c_str()), 0);
  ASSERT_TRUE(relabel(path("link/file"), kLabel).ok());
  EXPECT_EQ(label("volume/file"), kLabel);
  EXPECT_EQ(label("volume"), "");
  ASSERT_TRUE(relabel(path("link"), kLabel).ok());
  EXPECT_EQ(label("volume/a/b/deep"), kLabel);
  EXPECT_EQ(label("link"), "");
  EXPECT_EQ(relabel(path("none"), kLabel).error().code(), Code::kNotFound);
}

TEST_F(Relabel, WhatHasTheLabelIsNotWrittenTo) {
  ASSERT_TRUE(relabel(path("volume"), kLabel).ok());
  ASSERT_EQ(mount(path("volume").c_str(), path("volume").c_str(), nullptr, MS_BIND, nullptr), 0);
  ASSERT_EQ(
      mount("none", path("volume").c_str(), nullptr, MS_BIND | MS_REMOUNT | MS_RDONLY, nullptr), 0);
  EXPECT_TRUE(relabel(path("volume"), kLabel).ok());
  const auto other = relabel(path("volume"), "other");
  EXPECT_EQ(other.error().errno_value(), EROFS);
  EXPECT_THAT(other.error().message(), HasSubstr(cat("\"", path("volume"), "\"")));
  umount2(path("volume").c_str(), MNT_DETACH);
}

TEST_F(Relabel, DeepTreesAreReachedToTheirEnd) {
  std::string deep = path("volume/deep");
  for (int i = 0; i < 100; ++i) {
    deep += "/d";
    ASSERT_TRUE(make_dirs(deep, 0755).ok());
  }
  ASSERT_TRUE(relabel(path("volume"), kLabel).ok());
  EXPECT_EQ(label_of(deep), kLabel);
}

TEST_F(Relabel, WhatIsMountedBelowIsRelabelledToo) {
  ASSERT_TRUE(make_dirs(path("volume/a/below"), 0755).ok());
  ASSERT_EQ(mount("none", path("volume/a/below").c_str(), "tmpfs", 0, nullptr), 0);
  ASSERT_TRUE(make_dirs(path("volume/a/below/c"), 0755).ok());
  ASSERT_TRUE(relabel(path("volume"), kLabel).ok());
  EXPECT_EQ(label("volume/a/below"), kLabel);
  EXPECT_EQ(label("volume/a/below/c"), kLabel);
  EXPECT_EQ(label("volume/file"), kLabel);
}

TEST_F(Relabel, AFileSystemWithoutLabelsIsLeft) {
  ASSERT_TRUE(make_dirs(path("volume/a/below"), 0755).ok());
  ASSERT_EQ(mount("none", path("volume/a/below").c_str(), "ramfs", 0, nullptr), 0);
  ASSERT_TRUE(make_dirs(path("volume/a/below/c"), 0755).ok());
  EXPECT_TRUE(relabel(path("volume/a/below"), kLabel).ok());
  EXPECT_TRUE(relabel(path("volume"), kLabel).ok());
  EXPECT_EQ(label("volume/a/below"), "");
  EXPECT_EQ(label("volume/file"), kLabel);
}

TEST_F(Relabel, PlacesOfTheHostAreRefusedByWhateverName) {
  const std::vector<std::string> kept = {path("outside"), path("none")};
  ASSERT_EQ(symlink("../outside", path("volume/link").c_str()), 0);
  ASSERT_TRUE(make_dirs(path("volume/a/below"), 0755).ok());
  ASSERT_EQ(
      mount(path("outside").c_str(), path("volume/a/below").c_str(), nullptr, MS_BIND, nullptr), 0);
  for (const char* name : {"outside", "outside/", "outside/../outside/.", "volume/link",
                           "volume/a/below", "volume/a"}) {
    const auto refused = relabel(path(name), kLabel, kept);
    ASSERT_FALSE(refused.ok()) << name;
    EXPECT_EQ(refused.error().code(), Code::kInvalidArgument) << name;
    EXPECT_THAT(refused.error().message(), HasSubstr("nothing may change")) << name;
  }
  EXPECT_EQ(label("outside"), "");
  EXPECT_EQ(label("outside/file"), "");
  for (const char* place : {"/", "/etc", "/usr", "/home", "/var/lib"})
    EXPECT_THAT(never_relabelled(), Contains(place));
}

}  // namespace
}  // namespace fluyt::sys
