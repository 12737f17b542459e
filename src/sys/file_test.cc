#include "sys/file.h"

#include <gtest/gtest.h>
#include <sys/mount.h>
#include <sys/resource.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <set>
#include <thread>
#include <utility>
#include <vector>

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

// A walk that has gone down to the level `depth` of what make_deep made, and what it has read at
// each level: [1] is that of the first.
struct WalkDown {
  static Result<WalkDown> to(size_t depth, FdRef root) {
    WalkDown walk{FLUYT_TRY(DirStack::open(root, "tree")), {}};
    walk.seen.resize(depth + 1);
    while (true) {
      do {
        walk.seen[walk.at.depth()].insert(FLUYT_TRY(walk.at.read())->d_name);
      } while (!walk.seen[walk.at.depth()].contains("d"));
      if (walk.at.depth() == depth) return walk;
      FLUYT_TRY(walk.at.enter());
    }
  }
  // Back to the first, with what is not read yet. The depths {from, to} of what was kAborted.
  Result<std::vector<std::pair<size_t, size_t>>> up() {
    std::vector<std::pair<size_t, size_t>> aborted;
    while (true) {
      while (const dirent* entry = FLUYT_TRY(at.read())) seen[at.depth()].insert(entry->d_name);
      const size_t depth = at.depth();
      if (depth == 1) return aborted;
      const auto left = at.leave();
      if (left.ok()) continue;
      if (left.error().code() != Code::kAborted) return left.error();
      aborted.emplace_back(depth, at.depth());
    }
  }
  bool has_all(size_t level) const { return seen[level] == std::set<std::string>{"d", "e", "f"}; }

  DirStack at;
  std::vector<std::set<std::string>> seen;
};

// The path of that level.
std::string level_below(std::string top, size_t level) {
  while (--level > 0) top += "/d";
  return top;
}

constexpr size_t kDeep = DirStack::kMaxOpen + 8;    // eight are closed,
constexpr size_t kClosed = DirStack::kMaxKept + 5;  // and this one of them

// A walk at the bottom of a deep tree, of which everything below a closed directory lies elsewhere
// since.
class MovedTree : public RemoveTree {
 protected:
  WalkDown walk_with_a_move() {
    EXPECT_TRUE(make_dirs(path("tree"), 0755).ok());
    EXPECT_TRUE(make_dirs(path("other"), 0755).ok());
    make_deep(path("tree"), kDeep);
    WalkDown walk = WalkDown::to(kDeep, root_).value();
    const std::string moved = level_below(path("tree"), kClosed + 1);
    EXPECT_EQ(rename(moved.c_str(), path("other/d").c_str()), 0);
    return walk;
  }
};

TEST_F(MovedTree, AMoveUnderTheWalkCostsNothing) {
  if (geteuid() != 0) GTEST_SKIP() << "needs CAP_DAC_READ_SEARCH";
  WalkDown walk = walk_with_a_move();
  ASSERT_FALSE(HasFailure());
  EXPECT_EQ(walk.up().value(), (std::vector<std::pair<size_t, size_t>>{{kClosed + 1, kClosed}}))
      << "it is told of, and the walk is where it would have been";
  for (size_t level = 1; level <= kDeep; ++level) EXPECT_TRUE(walk.has_all(level)) << level;
}

TEST_F(MovedTree, ARemovalUnderTheWalkCostsWhatIsRemoved) {
  if (geteuid() != 0) GTEST_SKIP() << "needs CAP_DAC_READ_SEARCH";
  WalkDown walk = walk_with_a_move();
  ASSERT_FALSE(HasFailure());
  ASSERT_TRUE(remove_tree(level_below(path("tree"), kClosed)).ok());
  EXPECT_EQ(walk.up().value(),
            (std::vector<std::pair<size_t, size_t>>{{kClosed + 1, kClosed - 1}}));
  for (size_t level = 1; level <= kDeep; ++level) {
    EXPECT_TRUE(level == kClosed || walk.has_all(level)) << level;
  }
}

TEST_F(MovedTree, AWalkWithoutHandlesGoesOnInWhatIsStillOpen) {
  if (geteuid() != 0) GTEST_SKIP() << "needs root, to be somebody else";
  WalkDown walk = walk_with_a_move();
  ASSERT_FALSE(HasFailure());
  ASSERT_EQ(seteuid(65534), 0);  // to whom no directory is opened by its handle
  const auto aborted = walk.up();
  ASSERT_EQ(seteuid(0), 0);
  ASSERT_TRUE(aborted.ok()) << aborted.error().message();
  EXPECT_EQ(*aborted, (std::vector<std::pair<size_t, size_t>>{{kClosed + 1, DirStack::kMaxKept}}));
  for (size_t level = 1; level <= DirStack::kMaxKept; ++level)
    EXPECT_TRUE(walk.has_all(level)) << level;
}

// Whoever moves the top of something deep all the time hides what is below at most, and not the
// rest: neither in the directory that it is moved from nor further up.
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
  const std::string parent = level_below(path("tree/chain"), 12);
  for (int i = 0; i < kBeside; ++i)
    ASSERT_TRUE(open(kCwd, cat(parent, "/beside", i), O_WRONLY | O_CREAT, 0600).ok());
  const std::string inner = parent + "/d";
  const std::string elsewhere = path("tree/away");
  std::atomic<bool> stop{false};
  std::thread mover([&] {
    while (!stop) {
      EXPECT_EQ(rename(inner.c_str(), elsewhere.c_str()), 0);
      EXPECT_EQ(rename(elsewhere.c_str(), inner.c_str()), 0);
    }
  });
  const bool has_handles = geteuid() == 0;
  for (int i = 0; i < 10; ++i) {
    const TreeSize size = tree_size(root_, "tree").value();
    EXPECT_GE(size.inodes, (has_handles ? 2U : 1U) * kBeside + 2U);
    EXPECT_TRUE(size.complete || !has_handles);
  }
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
