#include "sys/file.h"

#include <gtest/gtest.h>
#include <sys/mount.h>
#include <unistd.h>

#include <cerrno>

namespace fluyt::sys {
namespace {

class Folder : public ::testing::Test {
 protected:
  void SetUp() override {
    auto made = TempDir::create();
    ASSERT_TRUE(made.ok());
    dir_ = std::make_unique<TempDir>(std::move(made).value());
    root_ = open(dir_->path(), O_PATH | O_DIRECTORY).value();
  }
  std::string path(const std::string& name) const { return dir_->path() + "/" + name; }
  std::unique_ptr<TempDir> dir_;
  Fd root_;
};

using OpenIn = Folder;
using RemoveTree = Folder;
using WriteFile = Folder;

TEST_F(OpenIn, LinksAndDotsStayInTheRoot) {
  ASSERT_EQ(symlink("/etc", path("absolute").c_str()), 0);
  ASSERT_EQ(symlink("../../../../etc", path("climbing").c_str()), 0);
  for (const char* name :
       {"absolute/passwd", "climbing/passwd", "../../etc/passwd", "/etc/passwd"}) {
    auto result = open_in(root_, name, O_RDONLY);
    ASSERT_FALSE(result.ok()) << name;
    EXPECT_EQ(result.error().errno_value(), ENOENT) << name;
  }
  EXPECT_EQ(open_in(root_, "../x", O_RDONLY, 0, Resolve::kBeneath).error().errno_value(), EXDEV);
}

TEST_F(OpenIn, MagicLinksAreNotFollowed) {
  const Fd proc = open("/proc", O_PATH | O_DIRECTORY).value();
  EXPECT_EQ(open_in(proc, "self/root", O_PATH | O_DIRECTORY).error().errno_value(), ELOOP);
}

TEST_F(OpenIn, NulIsRefusedByName) {
  EXPECT_EQ(open_in(root_, std::string_view("a\0b", 3), O_RDONLY).error().code(),
            Code::kInvalidArgument);
}

TEST_F(OpenIn, MakeDirsFollowsLinksWithinTheRootOnly) {
  ASSERT_EQ(symlink("/inside", path("link").c_str()), 0);
  ASSERT_TRUE(make_dirs(path("inside"), 0755).ok());
  ASSERT_TRUE(make_dirs_in(root_, "link/a/b", 0755).ok());
  EXPECT_TRUE(exists(path("inside/a/b")));
  ASSERT_EQ(symlink("/etc", path("out").c_str()), 0);
  ASSERT_FALSE(make_dirs_in(root_, "out/fluyt-must-not-exist", 0755).ok());
  EXPECT_FALSE(exists("/etc/fluyt-must-not-exist"));
}

TEST_F(RemoveTree, TakesAllOfItAndFollowsNoLink) {
  ASSERT_TRUE(make_dirs(path("kept/deep"), 0755).ok());
  ASSERT_TRUE(make_dirs(path("gone/a/b"), 0755).ok());
  ASSERT_EQ(symlink(path("kept").c_str(), path("gone/a/link").c_str()), 0);
  ASSERT_TRUE(remove_tree(path("gone")).ok());
  EXPECT_FALSE(exists(path("gone")));
  EXPECT_TRUE(exists(path("kept/deep")));
  EXPECT_TRUE(remove_tree(path("gone")).ok());
}

TEST_F(RemoveTree, StopsAtABindMountOfItsOwnFileSystem) {
  if (geteuid() != 0) GTEST_SKIP() << "needs root to mount";
  ASSERT_TRUE(make_dirs(path("kept/deep"), 0755).ok());
  for (const char* name : {"gone/mount", "itself"}) {
    ASSERT_TRUE(make_dirs(path(name), 0755).ok());
    ASSERT_EQ(mount(path("kept").c_str(), path(name).c_str(), nullptr, MS_BIND, nullptr), 0);
  }
  EXPECT_FALSE(remove_tree(path("gone")).ok());
  EXPECT_FALSE(remove_tree(path("itself")).ok());
  umount2(path("gone/mount").c_str(), MNT_DETACH);
  umount2(path("itself").c_str(), MNT_DETACH);
  EXPECT_TRUE(exists(path("kept/deep")));
}

TEST_F(RemoveTree, RefusesNamesThatAreNotOne) {
  for (const char* name : {"/", ".", "/tmp/.."}) EXPECT_FALSE(remove_tree(name).ok()) << name;
}

TEST_F(WriteFile, AtomicReplacesWholeAndLeavesNoTemporary) {
  ASSERT_TRUE(write_file_atomic(root_, "a", "one", 0600).ok());
  ASSERT_TRUE(write_file_atomic(root_, "a", "two", 0600, Durability::kFsync).ok());
  EXPECT_EQ(read_file(path("a"), 100).value(), "two");
  EXPECT_EQ(list_dir(dir_->path()).value(), std::vector<std::string>{"a"});
}

TEST_F(WriteFile, ReadingStopsAtTheLimit) {
  ASSERT_TRUE(write_file_atomic(root_, "a", std::string(5000, 'x'), 0600).ok());
  EXPECT_EQ(read_file(path("a"), 100).error().code(), Code::kResourceExhausted);
}

TEST(Memfd, SealedOnesCannotBeChanged) {
  const Fd fd = sealed_memfd("test", "data").value();
  EXPECT_LT(::write(fd.raw(), "x", 1), 0);
  EXPECT_EQ(read_all(fd, 10).value(), "data");
}

}  // namespace
}  // namespace fluyt::sys
