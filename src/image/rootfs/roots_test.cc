#include "image/rootfs/roots.h"

#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/xattr.h>
#include <unistd.h>

#include <thread>

#include "base/strings.h"
#include "sys/file.h"

namespace fluyt::image {
namespace {

class RootsTest : public testing::Test {
 protected:
  void SetUp() override {
    if (geteuid() != 0) GTEST_SKIP() << "needs root: the upper directory gets the image's owner";
    ASSERT_TRUE(sys::make_dirs(layer_, 0755).ok());
    ASSERT_EQ(chown(layer_.c_str(), 12, 34), 0);
    ASSERT_EQ(chmod(layer_.c_str(), 01770), 0);
    ASSERT_EQ(setxattr(layer_.c_str(), "user.a", "v", 1, 0), 0);
  }
  // The last of a test: what was removed is gone from the disk when its Roots are.
  bool nothing_is_left() {
    {
      const Roots ended = std::move(roots_);
    }
    return sys::list_dir(dir_.path() + "/roots")->empty();
  }
  sys::TempDir dir_ = sys::TempDir::create().value();
  std::string layer_ = dir_.path() + "/layer";
  Roots roots_ = Roots::open(dir_.path() + "/roots").value();
};

TEST_F(RootsTest, AreMadeWithTheLookOfTheTopmostLayer) {
  const sys::OverlayMount mount = roots_.create("c1", {layer_}).value();
  EXPECT_EQ(mount.lower_dirs, std::vector{layer_});
  EXPECT_EQ(mount.upper_dir, dir_.path() + "/roots/c1/upper");
  struct stat info{};
  ASSERT_EQ(stat(mount.upper_dir.c_str(), &info), 0);
  EXPECT_EQ(info.st_uid, 12U);
  EXPECT_EQ(info.st_gid, 34U);
  EXPECT_EQ(info.st_mode & 07777U, 01770U);
  char value = 0;
  EXPECT_EQ(getxattr(mount.upper_dir.c_str(), "user.a", &value, 1), 1);
  EXPECT_TRUE(sys::exists(mount.work_dir));
}

TEST_F(RootsTest, WithIdsTheUpperDirectoryIsTheirRoots) {
  ASSERT_TRUE(roots_.probe_ids().ok()) << roots_.probe_ids().error().message();
  const sys::IdMaps ids = {{{0, 100000, 65536}}, {{0, 200000, 65536}}};
  const sys::OverlayMount mount = roots_.create("c1", {layer_}, {.ids = ids}).value();
  EXPECT_EQ(mount.ids, ids);
  struct stat info{};
  ASSERT_EQ(stat(mount.upper_dir.c_str(), &info), 0);
  EXPECT_EQ(info.st_uid, 100012U);
  EXPECT_EQ(info.st_gid, 200034U);
  EXPECT_EQ(info.st_mode & 07777U, 01770U);
  ASSERT_EQ(stat(layer_.c_str(), &info), 0);
  EXPECT_EQ(info.st_uid, 12U);
  ASSERT_TRUE(roots_.remove("c1").ok());
  EXPECT_TRUE(nothing_is_left());
}

TEST_F(RootsTest, AReadOnlyOneIsTheLayersAlone) {
  constexpr auto kReadOnly = RootOptions::Access::kReadOnly;
  const sys::OverlayMount tree = roots_.create("c1.v", {layer_}, {.access = kReadOnly}).value();
  EXPECT_EQ(tree.lower_dirs, (std::vector{layer_, dir_.path() + "/roots/c1.v/empty"}));
  EXPECT_EQ(tree.upper_dir, "");
  EXPECT_EQ(roots_.create("c1.v", {layer_}, {.access = kReadOnly}).value(), tree);
  ASSERT_TRUE(roots_.remove("c1.v").ok());
  EXPECT_TRUE(nothing_is_left());
}

TEST_F(RootsTest, TheSameIdGivesTheSameRootWithItsContent) {
  const sys::OverlayMount mount = roots_.create("c1", {layer_}).value();
  ASSERT_TRUE(sys::write_file_atomic(sys::kCwd, mount.upper_dir + "/f", "x", 0600).ok());
  EXPECT_EQ(roots_.create("c1", {layer_}).value(), mount);
  EXPECT_TRUE(sys::exists(mount.upper_dir + "/f"));
  EXPECT_EQ(roots_.list().value(), std::vector<std::string>{"c1"});
  ASSERT_TRUE(roots_.remove("c1").ok());
  ASSERT_TRUE(roots_.remove("c1").ok());
  EXPECT_TRUE(roots_.list()->empty());
  EXPECT_TRUE(nothing_is_left());
}

TEST_F(RootsTest, ACopyIsTheRootItselfAndKeepsItsForm) {
  ASSERT_TRUE(sys::write_file_atomic(sys::kCwd, layer_ + "/f", "of the layer", 0644).ok());
  const Roots copies = Roots::open(dir_.path() + "/roots", RootDriver::kCopy).value();
  const sys::OverlayMount root = copies.create("c1", {layer_}).value();
  EXPECT_TRUE(root.lower_dirs.empty());
  EXPECT_EQ(sys::read_file(root.upper_dir + "/f", 100).value(), "of the layer");
  struct stat info{};
  ASSERT_EQ(stat(root.upper_dir.c_str(), &info), 0);
  EXPECT_EQ(info.st_uid, 12U);
  EXPECT_EQ(info.st_mode & 07777U, 01770U);
  EXPECT_EQ(roots_.create("c1", {layer_}).value(), root) << "another driver is for new roots";
  EXPECT_EQ(copies.create("c2", {layer_})->upper_dir, dir_.path() + "/roots/c2/upper");
}

TEST_F(RootsTest, IdsCannotLeaveTheFolder) {
  for (const char* id : {"", ".", "..", "../x", "a/b", "@x"}) {
    EXPECT_EQ(roots_.create(id, {layer_}).error().code(), Code::kInvalidArgument) << id;
    EXPECT_EQ(roots_.remove(id).error().code(), Code::kInvalidArgument) << id;
  }
}

TEST_F(RootsTest, AFailedOneLeavesNothing) {
  EXPECT_FALSE(roots_.create("c1", {dir_.path() + "/none"}).ok());
  EXPECT_TRUE(nothing_is_left());
}

TEST_F(RootsTest, WhatADeadProcessLeftIsSwept) {
  ASSERT_TRUE(sys::make_dirs(dir_.path() + "/roots/@0123/upper", 0755).ok());
  ASSERT_TRUE(Roots::open(dir_.path() + "/roots").ok());
  EXPECT_TRUE(nothing_is_left());
}

// A collection and the removal behind remove() may have the same folder.
TEST_F(RootsTest, SeveralMayRemoveTheSame) {
  const sys::Fd root = sys::open(dir_.path(), O_PATH | O_DIRECTORY).value();
  for (int i = 0; i < 400; ++i) {
    ASSERT_TRUE(sys::make_dirs(cat(dir_.path(), "/gone/", i % 20, "/", i, "/a/b"), 0755).ok());
  }
  std::vector<std::thread> threads;
  for (int i = 0; i < 4; ++i) {
    threads.emplace_back([&] {
      const auto removed = remove_beside_others(root, "gone");
      EXPECT_TRUE(removed.ok()) << removed.error().message();
    });
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_FALSE(sys::exists(dir_.path() + "/gone"));
}

struct Notes final : Logger {
  bool enabled(LogLevel /*level*/) const override { return true; }
  void write(LogLevel /*level*/, std::string_view line) override { text += line; }
  std::string text;
};

TEST_F(RootsTest, WhatCannotBeRemovedKeepsNobodyFromOpening) {
  const std::string mount_point = dir_.path() + "/roots/@0123/upper";
  ASSERT_TRUE(sys::make_dirs(mount_point, 0755).ok());
  ASSERT_EQ(mount(layer_.c_str(), mount_point.c_str(), nullptr, MS_BIND, nullptr), 0);
  Notes logger;
  const auto roots = Roots::open(dir_.path() + "/roots", RootDriver::kOverlay, &logger);
  ASSERT_TRUE(roots.ok()) << roots.error().message();
  EXPECT_THAT(logger.text, ::testing::HasSubstr("roots/@removed-"));
  EXPECT_TRUE(roots->list()->empty());
  const std::vector<std::string> left = roots->list_removed().value();
  ASSERT_EQ(left.size(), 1U);
  ASSERT_EQ(umount(cat(dir_.path(), "/roots/", left[0], "/upper").c_str()), 0);
  ASSERT_TRUE(Roots::open(dir_.path() + "/roots").ok());
  EXPECT_TRUE(nothing_is_left());
}

TEST_F(RootsTest, UsageCountsLikeDuAndFollowsNothing) {
  const std::string upper = roots_.create("c1", {layer_})->upper_dir;
  const sys::TreeSize empty = roots_.usage("c1").value();
  EXPECT_EQ(empty.inodes, 1U);
  ASSERT_TRUE(sys::make_dirs(upper + "/d", 0755).ok());
  ASSERT_TRUE(
      sys::write_file_atomic(sys::kCwd, upper + "/d/f", std::string(100'000, 'x'), 0600).ok());
  ASSERT_EQ(link((upper + "/d/f").c_str(), (upper + "/g").c_str()), 0);
  ASSERT_EQ(symlink("/", (upper + "/everything").c_str()), 0);
  const sys::TreeSize usage = roots_.usage("c1").value();
  EXPECT_EQ(usage.inodes, 4U);
  EXPECT_GE(usage.bytes, empty.bytes + 100'000);
  EXPECT_LT(usage.bytes, empty.bytes + 120'000) << "the linked file once";
  EXPECT_TRUE(usage.complete);
  const sys::TreeSize cut = roots_.usage("c1", 2).value();
  EXPECT_FALSE(cut.complete);
  EXPECT_EQ(cut.inodes, 2U);
  EXPECT_EQ(roots_.usage("none").error().code(), Code::kNotFound);
}

}  // namespace
}  // namespace fluyt::image
