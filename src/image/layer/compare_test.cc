#include "image/layer/compare.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/xattr.h>
#include <unistd.h>

#include <climits>
#include <utility>

#include "base/strings.h"
#include "image/layer/name.h"
#include "sys/file.h"

namespace fluyt::image {
namespace {

class CompareTest : public ::testing::Test {
 protected:
  void SetUp() override {
    for (const std::string& tree : {one(), other()}) {
      ASSERT_TRUE(sys::make_dirs(tree + "/a/b", 0755).ok());
      put(tree + "/a/file", "content");
      ASSERT_EQ(::link((tree + "/a/file").c_str(), (tree + "/a/again").c_str()), 0);
      ASSERT_EQ(::symlink("file", (tree + "/a/link").c_str()), 0);
    }
    still();
  }
  std::string one() const { return folder_.path() + "/one"; }
  std::string other() const { return folder_.path() + "/other"; }
  static void put(const std::string& path, std::string_view content) {
    ASSERT_TRUE(sys::write_file_atomic(sys::kCwd, path, content, 0644).ok());
  }
  // Times are the test's own affair.
  void still() const {
    const std::string command = cat("find ", folder_.path(), " -exec touch -h -d @1000 {} +");
    ASSERT_EQ(std::system(command.c_str()), 0);
  }
  std::vector<std::string> differences(size_t limit = 10) const {
    const sys::Fd here = sys::open(one(), O_RDONLY | O_DIRECTORY).value();
    const sys::Fd there = sys::open(other(), O_RDONLY | O_DIRECTORY).value();
    return compare_trees(here, there, limit).value();
  }
  sys::TempDir folder_ = sys::TempDir::create().value();
};

TEST_F(CompareTest, EqualTreesDoNotDiffer) {
  EXPECT_TRUE(differences().empty());
  const auto counted = count_tree(sys::open(one(), O_RDONLY | O_DIRECTORY).value()).value();
  EXPECT_EQ(counted.inodes, 4U);  // a, a/b, a/file, a/link
  EXPECT_EQ(counted.file_bytes, 7U);
}

TEST_F(CompareTest, EachKindOfDifferenceIsNamed) {
  put(one() + "/a/file", "CONTENT");
  ASSERT_EQ(::unlink((one() + "/a/link").c_str()), 0);
  ASSERT_EQ(::symlink("elsewhere", (one() + "/a/link").c_str()), 0);
  ASSERT_EQ(::rmdir((one() + "/a/b").c_str()), 0);
  put(one() + "/a/b", "");
  put(one() + "/new", "");
  ASSERT_EQ(::chmod((one() + "/a").c_str(), 0700), 0);
  still();
  std::string all = join(differences(), "\n");
  for (const char* words :
       {"\"/a\" has another mode", "\"/a/b\" is of another type",
        "\"/a/file\" is hard-linked to other names", "\"/a/file\" has other content",
        "\"/a/link\" leads elsewhere", "\"/new\" does not belong there"}) {
    EXPECT_NE(all.find(words), std::string::npos) << words << " in\n" << all;
  }
  EXPECT_EQ(differences(2).size(), 2U);
}

TEST_F(CompareTest, NamesOutsideTheTreeAreNoDifference) {
  ASSERT_EQ(::link((one() + "/a/file").c_str(), (folder_.path() + "/third").c_str()), 0);
  put(one() + "/single", "1");
  put(other() + "/single", "1");
  ASSERT_EQ(::link((one() + "/single").c_str(), (folder_.path() + "/second").c_str()), 0);
  still();
  EXPECT_THAT(differences(), ::testing::IsEmpty());
  // The same number of names, other ones.
  put(one() + "/a/again", "content");
  ASSERT_EQ(::link((one() + "/a/again").c_str(), (folder_.path() + "/fourth").c_str()), 0);
  still();
  EXPECT_THAT(differences(), ::testing::ElementsAre("\"/a/file\" is hard-linked to other names"));
}

TEST_F(CompareTest, EndsBetweenEntriesAndPieces) {
  const sys::Fd here = sys::open(one(), O_RDONLY | O_DIRECTORY).value();
  const sys::Fd there = sys::open(other(), O_RDONLY | O_DIRECTORY).value();
  int steps = 0;
  int most = INT_MAX;
  const auto step = [&]() -> Result<> {
    return ++steps <= most ? Result<>() : Error(Code::kCancelled, "enough");
  };
  EXPECT_TRUE(compare_trees(here, there, 10, step)->empty());
  EXPECT_GE(steps, 6);  // five names, and a piece at least
  most = std::exchange(steps, 0) - 1;
  EXPECT_EQ(compare_trees(here, there, 10, step).error().code(), Code::kCancelled);
  steps = 0;
  most = INT_MAX;
  EXPECT_EQ(count_tree(here, step)->inodes, 4U);
  most = std::exchange(steps, 0) - 1;
  EXPECT_EQ(count_tree(here, step).error().code(), Code::kCancelled);
}

// As deep as a tar's paths are long.
TEST_F(CompareTest, DepthTakesNoDescriptors) {
  constexpr int kDepth = 1900;
  constexpr rlim_t kFiles = 128;
  const auto bottom_of = [](const std::string& tree) {
    sys::Fd at = sys::open(tree, O_RDONLY | O_DIRECTORY).value();
    for (int i = 0; i < kDepth; ++i) {
      EXPECT_EQ(::mkdirat(at.raw(), "d", 0755), 0);
      at = sys::open(at, "d", O_RDONLY | O_DIRECTORY).value();
    }
    return at;
  };
  const sys::Fd one_end = bottom_of(one());
  bottom_of(other());
  ASSERT_TRUE(sys::write_file_atomic(one_end, "stray", "12345", 0644).ok());
  still();
  const sys::Fd here = sys::open(one(), O_RDONLY | O_DIRECTORY).value();
  const sys::Fd there = sys::open(other(), O_RDONLY | O_DIRECTORY).value();
  rlimit before{};
  ASSERT_EQ(::getrlimit(RLIMIT_NOFILE, &before), 0);
  const rlimit few{kFiles, before.rlim_max};
  ASSERT_EQ(::setrlimit(RLIMIT_NOFILE, &few), 0);
  const auto found = compare_trees(here, there, 10);
  const auto counted = count_tree(here);
  ASSERT_EQ(::setrlimit(RLIMIT_NOFILE, &before), 0);
  ASSERT_TRUE(found.ok()) << found.error().message();
  ASSERT_EQ(found->size(), 1U);
  EXPECT_THAT(found->front(), ::testing::EndsWith(" does not belong there"));
  ASSERT_TRUE(counted.ok()) << counted.error().message();
  EXPECT_EQ(counted->inodes, 4U + kDepth + 1U);
  EXPECT_EQ(counted->file_bytes, 12U);
}

TEST_F(CompareTest, MarksOfWhiteoutsDoNotCount) {
  constexpr char kOpaque[] = "trusted.overlay.opaque";
  if (::setxattr((one() + "/a").c_str(), kOverlayOrigin, "", 0, 0) != 0) {
    GTEST_SKIP() << "this file system takes no attributes";
  }
  EXPECT_THAT(differences(), ::testing::IsEmpty()) << "trees of earlier versions have none";
  ASSERT_EQ(::setxattr((one() + "/a").c_str(), kOpaque, "y", 1, 0), 0);
  EXPECT_EQ(differences().size(), 1U);
}

TEST_F(CompareTest, AttributesCount) {
  if (::setxattr((one() + "/a/file").c_str(), "user.k", "v", 1, 0) != 0) {
    GTEST_SKIP() << "this file system takes no attributes";
  }
  EXPECT_EQ(join(differences(), "\n").find("has other attributes") == std::string::npos, false);
}

}  // namespace
}  // namespace fluyt::image
