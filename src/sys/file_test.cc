#include "sys/file.h"

#include <gtest/gtest.h>
#include <sys/mount.h>
#include <sys/resource.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <thread>

#include "base/strings.h"
#include "sys/dir_stack.h"

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

// A container may make such a tree: step by step, for no path is that long.
void make_deep(const std::string& top, int levels) {
  Fd at = open(top, O_RDONLY | O_DIRECTORY).value();
  for (int level = 0; level < levels; ++level) {
    ASSERT_EQ(mkdirat(at.raw(), "d", 0755), 0);
    ASSERT_EQ(mkdirat(at.raw(), "e", 0755), 0);
    ASSERT_TRUE(open(at, "f", O_WRONLY | O_CREAT, 0600).ok());
    at = open(at, "d", O_RDONLY | O_DIRECTORY).value();
  }
}

// Few descriptors, whatever this test was started with.
class FewDescriptors {
 public:
  FewDescriptors() {
    getrlimit(RLIMIT_NOFILE, &before_);
    rlimit few = before_;
    few.rlim_cur = 64;
    setrlimit(RLIMIT_NOFILE, &few);
  }
  ~FewDescriptors() { setrlimit(RLIMIT_NOFILE, &before_); }

 private:
  rlimit before_{};
};

TEST_F(RemoveTree, IsNotKeptByDepth) {
  constexpr int kLevels = 500;
  const FewDescriptors few;
  ASSERT_TRUE(make_dirs(path("gone"), 0755).ok());
  make_deep(path("gone"), kLevels);
  const TreeSize size = tree_size(root_, "gone").value();
  EXPECT_TRUE(size.complete);
  EXPECT_EQ(size.inodes, 3U * kLevels + 1);
  const auto removed = remove_tree(path("gone"));
  EXPECT_TRUE(removed.ok()) << removed.error().message();
  EXPECT_FALSE(exists(path("gone")));
}

TEST_F(RemoveTree, GoesOnBesideWhatIsDeep) {
  ASSERT_TRUE(make_dirs(path("gone"), 0755).ok());
  for (const char* name : {"a", "b", "c"}) {
    ASSERT_TRUE(make_dirs(path(cat("gone/", name)), 0755).ok());
    make_deep(path(cat("gone/", name)), static_cast<int>(DirStack::kMaxOpen) * 2);
  }
  EXPECT_EQ(tree_size(root_, "gone")->inodes, 4 + 3 * 3 * DirStack::kMaxOpen * 2);
  EXPECT_EQ(tree_size(root_, "gone", 10)->inodes, 10U);
  EXPECT_FALSE(tree_size(root_, "gone", 10)->complete);
  EXPECT_TRUE(remove_tree(path("gone")).ok());
  EXPECT_EQ(tree_size(root_, "gone").error().code(), Code::kNotFound);
}

TEST_F(RemoveTree, AMoveUnderTheWalkCostsWhatIsBelowIt) {
  ASSERT_TRUE(make_dirs(path("tree"), 0755).ok());
  ASSERT_TRUE(make_dirs(path("other"), 0755).ok());
  make_deep(path("tree"), static_cast<int>(DirStack::kMaxOpen) + 1);
  DirStack at = DirStack::open(root_, "tree").value();
  std::vector<std::string> seen;  // in the last directory that stays open
  while (at.depth() <= DirStack::kMaxOpen) {
    while (true) {
      const std::string name = at.read().value()->d_name;
      if (at.depth() == DirStack::kMaxKept) seen.push_back(name);
      if (name == "d") break;
    }
    ASSERT_TRUE(at.enter().ok());
  }
  std::string moved = path("tree");
  for (size_t level = 0; level <= DirStack::kMaxKept; ++level) moved += "/d";
  ASSERT_EQ(rename(moved.c_str(), path("other/d").c_str()), 0);
  while (at.depth() > DirStack::kMaxKept + 2) ASSERT_TRUE(at.leave().ok());
  EXPECT_EQ(at.leave().error().code(), Code::kAborted);
  ASSERT_EQ(at.depth(), DirStack::kMaxKept);
  while (const dirent* entry = at.read().value()) seen.emplace_back(entry->d_name);
  std::sort(seen.begin(), seen.end());
  EXPECT_EQ(seen, (std::vector<std::string>{"d", "e", "f"})) << "it goes on where it was";
  while (at.depth() > 1) ASSERT_TRUE(at.leave().ok());
}

// Whoever moves the top of something deep all the time hides what is below, and not the rest.
TEST_F(RemoveTree, AMoveUnderTheWalkHidesNotWhatIsBeside) {
  ASSERT_TRUE(make_dirs(path("tree"), 0755).ok());
  const Fd tree = open(path("tree"), O_PATH | O_DIRECTORY).value();
  constexpr int kBeside = 1000;
  for (int i = 0; i < kBeside; ++i) {  // some before it and some behind it, in whatever order
    ASSERT_TRUE(open(tree, cat("beside", i), O_WRONLY | O_CREAT, 0600).ok());
    if (i == kBeside / 2) {
      ASSERT_TRUE(make_dirs(path("tree/chain"), 0755).ok());
    }
  }
  make_deep(path("tree/chain"), static_cast<int>(DirStack::kMaxOpen) * 4);
  std::string inner = path("tree/chain");
  for (int level = 0; level < 12; ++level) inner += "/d";
  const std::string elsewhere = path("tree/away");
  std::atomic<bool> stop{false};
  std::thread mover([&] {
    while (!stop) {
      EXPECT_EQ(rename(inner.c_str(), elsewhere.c_str()), 0);
      EXPECT_EQ(rename(elsewhere.c_str(), inner.c_str()), 0);
    }
  });
  for (int i = 0; i < 10; ++i) EXPECT_GE(tree_size(root_, "tree")->inodes, kBeside + 2U);
  stop = true;
  mover.join();
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
