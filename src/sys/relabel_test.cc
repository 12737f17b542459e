#include "sys/relabel.h"

#include <fcntl.h>
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
#include "sys/mount_table.h"

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

Result<> relabel(const std::string& path, const std::string& label) {
  return sys::relabel(path, label, nullptr, Deadline::never());
}

Result<> relabel(const std::string& path, const std::string& label,
                 const std::vector<std::string>& places) {
  KeptPlaces kept = FLUYT_TRY(KeptPlaces::find(places));
  return sys::relabel(path, label, &kept, Deadline::never());
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
    umount2(path("volume/a/below/c d/e").c_str(), MNT_DETACH);
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
  umount2(path("volume").c_str(), MNT_DETACH);
}

// As a volume of NFS, or one that was mounted with a label: read-only comes first for the kernel.
TEST_F(Relabel, AReadOnlyFileSystemThatKeepsNoLabelsIsLeft) {
  ASSERT_TRUE(make_dirs(path("volume/a/below"), 0755).ok());
  ASSERT_EQ(mount(path("volume").c_str(), path("volume").c_str(), nullptr, MS_BIND, nullptr), 0);
  ASSERT_EQ(
      mount("none", path("volume").c_str(), nullptr, MS_BIND | MS_REMOUNT | MS_RDONLY, nullptr), 0);
  const auto table = MountTable::read();
  ASSERT_TRUE(table.ok());
  ASSERT_FALSE(table->find_at(path("volume"))->keeps_labels);
  const auto left = relabel(path("volume"), kLabel);
  EXPECT_TRUE(left.ok()) << left.error().message();
  EXPECT_EQ(label("volume"), "");
  umount2(path("volume").c_str(), MNT_DETACH);
}

TEST_F(Relabel, EndsWithTheDeadline) {
  const auto late = sys::relabel(path("volume"), kLabel, nullptr, Deadline::after_ms(0));
  ASSERT_FALSE(late.ok());
  EXPECT_EQ(late.error().code(), Code::kDeadlineExceeded);
  EXPECT_THAT(late.error().message(), HasSubstr(cat("\"", path("volume"), "\"")));
  EXPECT_EQ(label("volume"), "");
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

TEST_F(Relabel, WhatIsMountedBelowOneWithoutLabelsIsRelabelled) {
  ASSERT_TRUE(make_dirs(path("volume/a/below"), 0755).ok());
  ASSERT_EQ(mount("none", path("volume/a/below").c_str(), "ramfs", 0, nullptr), 0);
  ASSERT_TRUE(make_dirs(path("volume/a/below/c d/e"), 0755).ok());
  ASSERT_EQ(mount("none", path("volume/a/below/c d/e").c_str(), "tmpfs", 0, nullptr), 0);
  ASSERT_TRUE(make_dirs(path("volume/a/below/c d/e/f"), 0755).ok());
  for (const char* name : {"volume/a/below", "volume"}) {
    ASSERT_TRUE(relabel(path(name), cat(kLabel, name)).ok()) << name;
    EXPECT_EQ(label("volume/a/below/c d"), "");
    EXPECT_EQ(label("volume/a/below/c d/e"), cat(kLabel, name));
    EXPECT_EQ(label("volume/a/below/c d/e/f"), cat(kLabel, name));
  }
}

// Its server is gone: whoever looks at it has an error, or waits for ever.
TEST_F(Relabel, APlaceOnAnotherFileSystemIsNotLookedAt) {
  const int device = ::open("/dev/fuse", O_RDWR | O_CLOEXEC);
  if (device < 0) GTEST_SKIP() << "/dev/fuse: this host has none";
  const std::string options = cat("fd=", device, ",rootmode=40000,user_id=0,group_id=0");
  ASSERT_EQ(mount("gone", path("outside").c_str(), "fuse", 0, options.c_str()), 0);
  ::close(device);
  ASSERT_EQ(symlink("outside", path("link").c_str()), 0);
  const auto done = relabel(path("volume"), kLabel, {path("outside"), path("link")});
  EXPECT_TRUE(done.ok()) << done.error().message();
  EXPECT_EQ(label("volume"), kLabel);
  EXPECT_FALSE(relabel(path("volume"), kLabel, {path("outside/below")}).ok());
  umount2(path("outside").c_str(), MNT_DETACH);
}

TEST_F(Relabel, APlaceIsWhatItsLinksLeadTo) {
  ASSERT_EQ(symlink("outside", path("one").c_str()), 0);
  ASSERT_EQ(symlink(path("one").c_str(), path("two").c_str()), 0);
  ASSERT_EQ(mount(path("outside").c_str(), path("outside").c_str(), nullptr, MS_BIND, nullptr), 0);
  for (const char* place : {"outside", "one", "two"})
    EXPECT_FALSE(relabel(path("outside"), kLabel, {path(place)}).ok()) << place;
  ASSERT_EQ(symlink("round", path("round").c_str()), 0);
  EXPECT_EQ(relabel(path("volume"), kLabel, {path("round")}).error().errno_value(), ELOOP);
  umount2(path("outside").c_str(), MNT_DETACH);
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
