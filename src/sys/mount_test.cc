#include "sys/mount.h"

#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/stat.h>
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
  const auto made = make_overlay_by_path(layers(3), ",redirect_dir=nofollow,metacopy=off");
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

}  // namespace
}  // namespace fluyt::sys
