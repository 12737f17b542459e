#include "guest/fs/hostfs.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/stat.h>
#include <unistd.h>

#include <string>

#include "guest/platform/host/io.h"
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
    fs_ = std::make_shared<HostFs>(std::move(*broker), HostFs::Access::kReadWrite, GetParam(),
                                   HostFs::Ids::kAsTheyAre, geteuid(), getegid());
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
}

INSTANTIATE_TEST_SUITE_P(Trees, HostFsTest,
                         testing::Values(HostFs::Sharing::kShared, HostFs::Sharing::kExclusive),
                         [](const auto& tested) {
                           return tested.param == HostFs::Sharing::kShared ? "Shared" : "Exclusive";
                         });

}  // namespace
}  // namespace fluyt::guest
