#include "sys/mount.h"

#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/stat.h>
#include <sys/xattr.h>
#include <unistd.h>

#include "base/strings.h"
#include "sys/file.h"

namespace fluyt::sys {
namespace {

using ::testing::HasSubstr;
using ::testing::Not;

class OverlayTest : public ::testing::Test {
 protected:
  void SetUp() override {
    if (geteuid() != 0) GTEST_SKIP() << "needs root to mount";
    folder_ = std::make_unique<TempDir>(TempDir::create().value());
  }
  // `count` layers, each with a file of its own and one that all have, under names of 75 bytes as
  // the layer store's.
  OverlayMount layers(size_t count, const std::string& below = "") {
    OverlayMount out;
    for (size_t i = 0; i < count; ++i) {
      const std::string dir = cat(folder_->path(), below, "/",
                                  std::string(64, static_cast<char>('a' + i % 26)), i, "/fs");
      EXPECT_TRUE(make_dirs(dir, 0755).ok());
      const Fd fd = open(dir, O_PATH | O_DIRECTORY).value();
      EXPECT_TRUE(write_file_atomic(fd, cat("own-", i), "x", 0644).ok());
      EXPECT_TRUE(write_file_atomic(fd, "all", std::to_string(i), 0644).ok());
      out.lower_dirs.push_back(dir);
    }
    return out;
  }
  void make_writable(OverlayMount& overlay) {
    overlay.upper_dir = folder_->path() + "/upper";
    overlay.work_dir = folder_->path() + "/work";
    ASSERT_TRUE(make_dirs(overlay.upper_dir, 0755).ok());
    ASSERT_TRUE(make_dirs(overlay.work_dir, 0755).ok());
  }
  static size_t open_fds() { return list_dir("/proc/self/fd").value().size(); }
  static std::string mounts() {
    return read_file(kCwd, "/proc/self/mountinfo", 16UL << 20U).value();
  }
  std::unique_ptr<TempDir> folder_;
};

TEST_F(OverlayTest, ByPathStacksAsManyLayersAsTheKernelTakes) {
  for (const size_t count : {1UL, 2UL, 100UL, 400UL}) {
    OverlayMount overlay = layers(count);
    make_writable(overlay);
    const size_t fds = open_fds();
    {
      auto made = make_overlay_by_path(overlay);
      ASSERT_TRUE(made.ok()) << count << ": " << made.error().message();
      EXPECT_EQ(read_file(*made, "all", 10).value(), "0") << "the first is the topmost";
      EXPECT_EQ(read_file(*made, cat("own-", count - 1), 10).value(), "x");
      EXPECT_TRUE(write_file_atomic(*made, "new", "y", 0644).ok());
      EXPECT_EQ(open_fds(), fds + 1);
    }
    EXPECT_THAT(mounts(), Not(HasSubstr(folder_->path()))) << "no mount table shows it";
    EXPECT_TRUE(exists(overlay.upper_dir + "/new"));
    ASSERT_TRUE(remove_tree(kCwd, overlay.work_dir).ok());
  }
}

TEST_F(OverlayTest, ByPathWithoutAnUpperDirectoryIsReadOnly) {
  const auto made = make_overlay_by_path(layers(3));
  ASSERT_TRUE(made.ok()) << made.error().message();
  EXPECT_EQ(write_file_atomic(*made, "new", "y", 0644).error().errno_value(), EROFS);
}

TEST_F(OverlayTest, ByPathNamesWhatFailed) {
  OverlayMount overlay = layers(2);
  overlay.lower_dirs.push_back(folder_->path() + "/none");
  const size_t fds = open_fds();
  const auto made = make_overlay_by_path(overlay);
  ASSERT_FALSE(made.ok());
  EXPECT_EQ(made.error().errno_value(), ENOENT);
  EXPECT_THAT(made.error().message(), HasSubstr("3 layers"));
  EXPECT_EQ(open_fds(), fds);
}

TEST_F(OverlayTest, NamesLongerThanFsconfigTakesWorkTheSame) {
  std::string deep;
  for (int i = 0; i < 4; ++i) deep += cat("/", std::string(80, 'd'));
  OverlayMount overlay = layers(3, deep);
  make_writable(overlay);
  const auto made = make_overlay(overlay);
  ASSERT_TRUE(made.ok()) << made.error().message();
  EXPECT_EQ(read_file(*made, "own-2", 10).value(), "x");
}

TEST_F(OverlayTest, TwoHundredLayers) {
  OverlayMount overlay = layers(200);
  make_writable(overlay);
  const auto made = make_overlay(overlay);
  ASSERT_TRUE(made.ok()) << made.error().message();
  EXPECT_EQ(read_file(*made, "own-199", 10).value(), "x");
}

// Whatever the host's module defaults to: a directory shows what is in it, and no other's files.
TEST_F(OverlayTest, RedirectsAreNotFollowed) {
  OverlayMount overlay = layers(2);
  ASSERT_TRUE(make_dirs(overlay.lower_dirs[1] + "/secret", 0700).ok());
  ASSERT_TRUE(write_file_atomic(kCwd, overlay.lower_dirs[1] + "/secret/file", "x", 0644).ok());
  const std::string moved = overlay.lower_dirs[0] + "/moved";
  ASSERT_TRUE(make_dirs(moved, 0755).ok());
  ASSERT_EQ(setxattr(moved.c_str(), "trusted.overlay.redirect", "/secret", 7, 0), 0);
  ASSERT_EQ(setxattr(moved.c_str(), "trusted.overlay.origin", "", 0, 0), 0);
  make_writable(overlay);
  {
    const auto made = make_overlay(overlay);
    ASSERT_TRUE(made.ok()) << made.error().message();
    EXPECT_FALSE(read_file(*made, "moved/file", 10).ok());
  }
  ASSERT_TRUE(remove_tree(kCwd, overlay.work_dir).ok());
  make_writable(overlay);
  const auto made = make_overlay_by_path(overlay);
  ASSERT_TRUE(made.ok()) << made.error().message();
  EXPECT_FALSE(read_file(*made, "moved/file", 10).ok());
}

// By whichever call: on a host without SELinux the kernel knows no such option.
TEST_F(OverlayTest, ALabelIsGivenToTheKernel) {
  OverlayMount overlay = layers(2);
  overlay.label = "system_u:object_r:container_file_t:s0:c1,c2";
  const bool has_selinux = exists("/sys/fs/selinux/enforce");
  for (const auto& make : {make_overlay, make_overlay_by_path}) {
    make_writable(overlay);
    const auto made = make(overlay);
    EXPECT_EQ(made.ok() ? 0 : made.error().errno_value(), has_selinux ? 0 : EINVAL);
    ASSERT_TRUE(remove_tree(kCwd, overlay.work_dir).ok());
  }
}

IdMaps some_ids() { return {{{0, 300000, 1000}}, {{0, 400000, 1000}}}; }

TEST_F(OverlayTest, LayersShowUnderOtherIdsAndStayAsTheyAre) {
  OverlayMount overlay = layers(3);
  make_writable(overlay);
  ASSERT_EQ(chown(overlay.upper_dir.c_str(), 300000, 400000), 0);
  ASSERT_EQ(chown(cat(overlay.lower_dirs[1], "/own-1").c_str(), 7, 8), 0);
  ASSERT_EQ(chown(cat(overlay.lower_dirs[2], "/own-2").c_str(), 5000, 0), 0);
  overlay.ids = some_ids();
  const size_t fds = open_fds();
  {
    const auto made = make_overlay(overlay);
    ASSERT_TRUE(made.ok()) << made.error().message();
    EXPECT_EQ(open_fds(), fds + 1);
    const struct stat shown = find_stat(*made, "own-1")->value();
    EXPECT_EQ(shown.st_uid, 300007U);
    EXPECT_EQ(shown.st_gid, 400008U);
    // Outside the range there is nobody.
    EXPECT_EQ(find_stat(*made, "own-2")->value().st_uid, 65534U);
    // Copied up, a file keeps the owner that it shows, on disk too.
    const std::string file = cat("/proc/self/fd/", made->raw(), "/own-1");
    ASSERT_EQ(chmod(file.c_str(), 0600), 0);
  }
  EXPECT_THAT(mounts(), Not(HasSubstr(folder_->path()))) << "no mount table shows it";
  EXPECT_EQ(find_stat(kCwd, overlay.upper_dir + "/own-1")->value().st_uid, 300007U);
  EXPECT_EQ(find_stat(kCwd, overlay.lower_dirs[1] + "/own-1")->value().st_uid, 7U);
}

TEST_F(OverlayTest, ADirectoryWithoutLayersShowsUnderOtherIdsToo) {
  const OverlayMount overlay{{}, layers(1).lower_dirs[0], {}, some_ids()};
  const auto made = make_overlay(overlay);
  ASSERT_TRUE(made.ok()) << made.error().message();
  EXPECT_EQ(find_stat(*made, "own-0")->value().st_gid, 400000U);
}

TEST_F(OverlayTest, AFileSystemThatCannotMapIdsIsNamed) {
  OverlayMount overlay = layers(1);
  overlay.lower_dirs.emplace_back("/proc/self");
  overlay.ids = some_ids();
  const auto made = make_overlay(overlay);
  ASSERT_FALSE(made.ok());
  EXPECT_THAT(made.error().message(), HasSubstr("files of proc cannot be shown under other ids"));
  EXPECT_THAT(made.error().message(), HasSubstr("\"/proc/self\""));
}

TEST_F(OverlayTest, ASubPathIsADirectoryInTheTree) {
  OverlayMount overlay = layers(2);
  const std::string& top = overlay.lower_dirs[0];
  ASSERT_TRUE(make_dirs(top + "/a/b", 0755).ok());
  ASSERT_TRUE(write_file_atomic(kCwd, top + "/a/b/here", "x", 0644).ok());
  ASSERT_EQ(symlink("/a", cat(top, "/absolute").c_str()), 0);
  ASSERT_EQ(symlink("../../../../../../../etc", cat(top, "/up").c_str()), 0);
  ASSERT_EQ(symlink("/proc/self/root", cat(top, "/magic").c_str()), 0);
  const OverlayMount directory{{}, top, {}};
  for (OverlayMount tree : {overlay, directory}) {
    for (const char* path : {"a/b", "/a/b", "absolute/b", "a/./b/"}) {
      tree.sub_path = path;
      const auto made = make_overlay(tree);
      ASSERT_TRUE(made.ok()) << path << ": " << made.error().message();
      EXPECT_EQ(list_dir(*made).value(), std::vector<std::string>{"here"}) << path;
    }
    // Links stay inside; what is not there is said; a file is none.
    for (const char* path : {"none", "a/none", "up", "magic"}) {
      tree.sub_path = path;
      const auto made = make_overlay(tree);
      ASSERT_FALSE(made.ok()) << path;
      EXPECT_EQ(made.error().code(), Code::kNotFound) << path;
    }
    tree.sub_path = "all";
    EXPECT_EQ(make_overlay(tree).error().errno_value(), ENOTDIR);
  }
}

}  // namespace
}  // namespace fluyt::sys
