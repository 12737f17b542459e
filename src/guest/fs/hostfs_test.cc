#include "guest/fs/hostfs.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/stat.h>
#include <unistd.h>

#include <string>

#include "guest/platform/host/io.h"
#include "guest/vfs/tree.h"
#include "sys/file.h"

namespace fluyt::guest {
namespace {

class HostFsTest : public testing::TestWithParam<HostFs::Sharing> {
 protected:
  void SetUp() override {
    ASSERT_NE(mkdtemp(folder_.data()), nullptr);
    sys::Fd procfs = std::move(*host::open_procfs());
    auto broker = host::Broker::start(folder_, procfs);
    ASSERT_TRUE(broker.ok()) << broker.error().message();
    fs_ = std::make_shared<HostFs>(std::move(*broker), files_, HostFs::Access::kReadWrite,
                                   GetParam(), HostFs::Ids::kAsTheyAre, geteuid(), getegid());
    root_ = fs_->root().value();
    file_ = root_->make("f", {S_IFREG | 0644, 0, geteuid(), getegid()}).value();
  }
  void TearDown() override {
    for (const char* name : {"/f", "/g"}) unlink((folder_ + name).c_str());
    rmdir(folder_.c_str());
  }
  bool exclusive() const { return GetParam() == HostFs::Sharing::kExclusive; }
  Stat stat(Inode& inode) { return inode.stat().value(); }

  std::string folder_ = "/tmp/fluyt-hostfs-XXXXXX";
  std::shared_ptr<HostFiles> files_ = std::make_shared<HostFiles>();
  std::shared_ptr<HostFs> fs_;
  InodePtr root_;
  InodePtr file_;
};

TEST_P(HostFsTest, WhatIsDoneInsideIsSeenAtOnce) {
  EXPECT_EQ(stat(*file_).size, 0);
  Sleeper sleeper;
  const Credentials who;
  Caller caller{sleeper, who};
  const FilePtr open = file_->open(nullptr, O_RDWR).value();
  int64_t at = 0;
  ASSERT_TRUE(open->write(caller, std::as_bytes(std::span("12345", 5)), &at).ok());
  EXPECT_EQ(stat(*file_).size, 5);
  ASSERT_TRUE(open->truncate(3).ok());
  EXPECT_EQ(stat(*file_).size, 3);
  ASSERT_TRUE(file_->truncate(2).ok());
  EXPECT_EQ(stat(*file_).size, 2);
  SetAttributes change;
  change.mode = 0600;
  ASSERT_TRUE(file_->set_attributes(change).ok());
  EXPECT_EQ(stat(*file_).mode & 07777, 0600U);
  ASSERT_TRUE(root_->link("g", *file_).ok());
  EXPECT_EQ(stat(*file_).nlink, 2U);
  const InodePtr other = root_->lookup("g").value();
  ASSERT_TRUE(other->truncate(1).ok());
  EXPECT_EQ(stat(*file_).size, 1);  // through its other name
  ASSERT_TRUE(root_->unlink("g", *other).ok());
  EXPECT_EQ(stat(*file_).nlink, 1U);
  EXPECT_EQ(stat(*root_).nlink, 2U);
  const InodePtr dir = root_->make("d", {S_IFDIR | 0755, 0, geteuid(), getegid()}).value();
  EXPECT_EQ(stat(*root_).nlink, 3U);
  ASSERT_TRUE(root_->remove_dir("d", *dir).ok());
  EXPECT_EQ(stat(*root_).nlink, 2U);
  // A program that maps it writes without our seeing.
  ASSERT_TRUE(open->host_descriptor().ok());
  EXPECT_EQ(stat(*file_).size, 1);
  ASSERT_EQ(truncate((folder_ + "/f").c_str(), 7), 0);
  EXPECT_EQ(stat(*file_).size, 7);
}

TEST_P(HostFsTest, WhatOthersDoIsSeenWhereTheTreeIsShared) {
  EXPECT_EQ(stat(*file_).size, 0);
  ASSERT_EQ(truncate((folder_ + "/f").c_str(), 9), 0);
  EXPECT_EQ(stat(*file_).size, exclusive() ? 0 : 9);
  root_->distrust();
  EXPECT_EQ(stat(*file_).size, 9);
}

TEST_P(HostFsTest, NamesAndTreesThatLeadToOneFileHaveItsIdentity) {
  ASSERT_TRUE(root_->link("g", *file_).ok());
  const InodePtr other_name = root_->lookup("g").value();
  EXPECT_NE(other_name, file_);
  EXPECT_EQ(&other_name->identity(), &file_->identity());
  sys::Fd procfs = std::move(*host::open_procfs());
  auto broker = host::Broker::start(folder_, procfs);
  ASSERT_TRUE(broker.ok()) << broker.error().message();
  const auto other =
      std::make_shared<HostFs>(std::move(*broker), files_, HostFs::Access::kReadWrite, GetParam(),
                               HostFs::Ids::kAsTheyAre, geteuid(), getegid());
  const InodePtr there = other->root().value()->lookup("f").value();
  EXPECT_EQ(&there->identity(), &file_->identity());
  const InodePtr another = root_->make("h", {S_IFREG | 0644, 0, geteuid(), getegid()}).value();
  EXPECT_NE(&another->identity(), &file_->identity());
  EXPECT_TRUE(root_->unlink("h", *another).ok());
}

TEST_P(HostFsTest, WhatIsOpenedForWritesThatAreOnTheDiskIsSoOnTheHost) {
  for (const int flags : {O_DSYNC, O_SYNC, 0}) {
    const FilePtr open = file_->open(nullptr, O_RDWR | flags).value();
    EXPECT_EQ(fcntl(open->host_descriptor().value(), F_GETFL) & O_SYNC, flags);
  }
}

/// The same through names.
class HostTreeTest : public HostFsTest {
 protected:
  void SetUp() override {
    HostFsTest::SetUp();
    tree_ = std::make_unique<Tree>(root_, "host");
  }
  void TearDown() override {
    for (const char* name : {"/d/x", "/e/x", "/h"}) unlink((folder_ + name).c_str());
    for (const char* name : {"/d", "/e"}) rmdir((folder_ + name).c_str());
    HostFsTest::TearDown();
  }
  WalkFrom from() { return {tree_->root(), tree_->root(), {}}; }
  /// The inode number, or a negated errno.
  int64_t number(const std::string& path) {
    const ErrnoOr<DentryPtr> found = tree_->find(from(), path, LastLink::kFollow);
    if (!found.ok()) return -found.error().value();
    const ErrnoOr<Stat> stat = found.value()->inode->stat();
    return stat.ok() ? static_cast<int64_t>(stat.value().ino) : -stat.error().value();
  }
  int64_t on_host(const std::string& path) {
    struct stat now{};
    return ::stat((folder_ + path).c_str(), &now) == 0 ? static_cast<int64_t>(now.st_ino) : -errno;
  }
  void make(const std::string& path) {
    const sys::Fd made(
        ::open((folder_ + path).c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0644));
    ASSERT_TRUE(made.valid()) << path;
  }
  void move(const std::string& path, const std::string& to) {
    ASSERT_EQ(::rename((folder_ + path).c_str(), (folder_ + to).c_str()), 0) << path;
  }
  /// An exclusive tree is believed for a while; as if that had passed.
  void expect_seen(const std::string& path, int64_t believed) {
    const int64_t now = on_host(path);
    EXPECT_EQ(number(path), exclusive() ? believed : now) << path;
    tree_->distrust(tree_->root());
    EXPECT_EQ(number(path), now) << path;
    EXPECT_EQ(number(path), now) << path << ", again";
  }
  std::unique_ptr<Tree> tree_;
};

TEST_P(HostTreeTest, NamesThatOthersMakeRemoveAndReplaceAreSeen) {
  EXPECT_EQ(number("/g"), -ENOENT);
  make("/g");
  expect_seen("/g", -ENOENT);
  const int64_t first = on_host("/g");
  make("/h");
  move("/h", "/g");
  expect_seen("/g", first);
  const int64_t second = on_host("/g");
  unlink((folder_ + "/g").c_str());
  expect_seen("/g", second);
}

TEST_P(HostTreeTest, FoldersThatOthersMoveTakeWhatIsBelowThemAlong) {
  ASSERT_EQ(mkdir((folder_ + "/d").c_str(), 0755), 0);
  ASSERT_EQ(mkdir((folder_ + "/e").c_str(), 0755), 0);
  make("/d/x");
  const int64_t below = number("/d/x");
  EXPECT_EQ(number("/e/x"), -ENOENT);
  const DentryPtr held = tree_->find(from(), "/d", LastLink::kFollow).value();
  ASSERT_EQ(rmdir((folder_ + "/e").c_str()), 0);
  move("/d", "/e");
  expect_seen("/d/x", below);
  EXPECT_EQ(number("/e/x"), on_host("/e/x"));
  // Who is in it is in it still.
  EXPECT_TRUE(tree_->find({tree_->root(), held, {}}, "x", LastLink::kFollow).ok());
  EXPECT_EQ(tree_->open({tree_->root(), held, {}}, "y", O_CREAT | O_RDWR, 0644).error(), kOk);
  EXPECT_EQ(unlink((folder_ + "/e/y").c_str()), 0);
}

TEST_P(HostTreeTest, AFileThatOthersMadeMeanwhileIsOpenedNotMade) {
  EXPECT_EQ(number("/g"), -ENOENT);
  make("/g");
  const ErrnoOr<Tree::Opened> opened = tree_->open(from(), "/g", O_CREAT | O_RDWR, 0644);
  ASSERT_TRUE(opened.ok()) << opened.error().value();
  EXPECT_FALSE(opened.value().created);
  EXPECT_EQ(tree_->open(from(), "/g", O_CREAT | O_EXCL | O_RDWR, 0644).error().value(), EEXIST);
}

INSTANTIATE_TEST_SUITE_P(Trees, HostTreeTest,
                         testing::Values(HostFs::Sharing::kShared, HostFs::Sharing::kExclusive),
                         [](const auto& tested) {
                           return tested.param == HostFs::Sharing::kShared ? "Shared" : "Exclusive";
                         });

TEST_P(HostFsTest, AFileThatIsOpenTakesADescriptorOfItsShare) {
  const auto descriptors = std::make_shared<Quota>(1);
  sys::Fd procfs = std::move(*host::open_procfs());
  auto broker = host::Broker::start(folder_, procfs);
  ASSERT_TRUE(broker.ok()) << broker.error().message();
  const auto small =
      std::make_shared<HostFs>(std::move(*broker), files_, HostFs::Access::kReadWrite, GetParam(),
                               HostFs::Ids::kAsTheyAre, geteuid(), getegid(), descriptors);
  const InodePtr file = small->root().value()->lookup("f").value();
  FilePtr open = file->open(nullptr, O_RDWR).value();
  EXPECT_EQ(file->open(nullptr, O_RDONLY).error().value(), ENFILE);
  EXPECT_TRUE(file->stat().ok());
  open.reset();
  EXPECT_TRUE(file->open(nullptr, O_RDONLY).ok());
}

INSTANTIATE_TEST_SUITE_P(Trees, HostFsTest,
                         testing::Values(HostFs::Sharing::kShared, HostFs::Sharing::kExclusive),
                         [](const auto& tested) {
                           return tested.param == HostFs::Sharing::kShared ? "Shared" : "Exclusive";
                         });

}  // namespace
}  // namespace fluyt::guest
