#include "guest/fs/charged_memory.h"

#include <fcntl.h>
#include <gtest/gtest.h>

#include <memory>
#include <utility>
#include <vector>

#include "guest/fs/memfs.h"

namespace fluyt::guest {
namespace {

constexpr uint64_t kPage = 4096;

TEST(Quota, GivesNoMoreThanItHasNorThanTheOneAroundIt) {
  auto around = std::make_shared<Quota>(100);
  Quota one(80, around);
  Quota other(80, around);
  EXPECT_TRUE(one.take(70));
  EXPECT_FALSE(one.take(20));
  EXPECT_FALSE(other.take(40));
  EXPECT_EQ(other.used(), 0U);
  EXPECT_EQ(other.left(), 30U);
  EXPECT_TRUE(other.take(30));
  one.give_back(70);
  EXPECT_EQ(around->used(), 30U);
  one.set_limit(0);
  EXPECT_FALSE(one.take(1));
  EXPECT_EQ(one.left(), 0U);
}

class ChargedMemoryTest : public testing::Test {
 protected:
  ChargedMemoryTest() : memory_(ChargedMemory::create("test", {quota_, nullptr}).value()) {}
  size_t write(size_t bytes, int64_t at) {
    const std::vector<std::byte> some(bytes, std::byte{1});
    const ErrnoOr<size_t> done = memory_->write(some, at);
    return done.ok() ? done.value() : 0;
  }
  std::shared_ptr<Quota> quota_ = std::make_shared<Quota>(8 * kPage);
  std::unique_ptr<ChargedMemory> memory_;
};

TEST_F(ChargedMemoryTest, PagesAreChargedOnceAndGivenBack) {
  EXPECT_EQ(write(100, 0), 100U);
  EXPECT_EQ(quota_->used(), kPage);
  EXPECT_EQ(write(100, 100), 100U);
  EXPECT_EQ(quota_->used(), kPage);
  EXPECT_EQ(write(kPage, 200), kPage);
  EXPECT_EQ(quota_->used(), 2 * kPage);
  EXPECT_EQ(write(1, 100 * kPage), 1U);  // behind a hole
  EXPECT_EQ(quota_->used(), 3 * kPage);
  EXPECT_EQ(write(kPage, 2 * kPage), kPage);
  EXPECT_EQ(quota_->used(), 4 * kPage);
  EXPECT_EQ(write(1, 100 * kPage), 1U);
  EXPECT_EQ(quota_->used(), 4 * kPage);
  EXPECT_TRUE(memory_->allocate(FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 0, 2 * kPage).ok());
  EXPECT_EQ(quota_->used(), 2 * kPage);
  EXPECT_EQ(write(10, 0), 10U);
  EXPECT_EQ(quota_->used(), 3 * kPage);
  EXPECT_TRUE(memory_->truncate(0).ok());
  EXPECT_EQ(quota_->used(), 0U);
  EXPECT_EQ(write(2 * kPage, 0), 2 * kPage);
  memory_.reset();
  EXPECT_EQ(quota_->used(), 0U);
}

TEST_F(ChargedMemoryTest, WhatFitsIsWritten) {
  EXPECT_EQ(write(5 * kPage + 10, 0), 5 * kPage + 10);
  EXPECT_EQ(write(5 * kPage, 5 * kPage + 10), 3 * kPage - 10);
  EXPECT_EQ(write(1, 8 * kPage), 0U);
  EXPECT_EQ(write(8 * kPage, 0), 8 * kPage);
  EXPECT_EQ(quota_->used(), 8 * kPage);
  EXPECT_EQ(memory_->allocate(0, 8 * kPage, 1).value(), ENOSPC);
}

TEST_F(ChargedMemoryTest, WhatIsMappedIsChargedWhole) {
  EXPECT_TRUE(memory_->truncate(6 * kPage).ok());
  EXPECT_EQ(quota_->used(), 0U);
  EXPECT_TRUE(memory_->map().ok());
  EXPECT_EQ(quota_->used(), 6 * kPage);
  EXPECT_EQ(memory_->truncate(9 * kPage).value(), ENOSPC);
  EXPECT_TRUE(memory_->truncate(8 * kPage).ok());
  auto other = ChargedMemory::create("test", {quota_, nullptr}).value();
  EXPECT_TRUE(other->truncate(1).ok());
  EXPECT_EQ(other->map().error().value(), ENOMEM);
  EXPECT_EQ(make_shared_memory(1, {quota_, nullptr}).error().value(), ENOMEM);
  memory_.reset();
  EXPECT_TRUE(make_shared_memory(1, {quota_, nullptr}).ok());
}

TEST(Memfs, OptionsAreReadAsTheManualPageHasThem) {
  MemfsRequest request;
  EXPECT_TRUE(read_memfs_options("size=64k,nr_inodes=5,mode=750,uid=7,noswap", 0, request).ok());
  EXPECT_EQ(request.size, 65536U);
  EXPECT_EQ(request.inodes, 5U);
  EXPECT_EQ(request.root_mode, 0750U);
  EXPECT_EQ(request.uid, 7U);
  EXPECT_TRUE(read_memfs_options("size=1", 0, request).ok());
  EXPECT_EQ(request.size, kPage);
  EXPECT_TRUE(read_memfs_options("size=50%,nr_inodes=0", 1000 * kPage, request).ok());
  EXPECT_EQ(request.size, 1000 * kPage);
  EXPECT_EQ(request.inodes, Quota::kUnlimited);
  EXPECT_TRUE(read_memfs_options("nr_blocks=3", 0, request).ok());
  EXPECT_EQ(request.size, 3 * kPage);
  for (const char* bad : {"size=", "size=x", "size=1kk", "size=99999999999999999999", "size=-1",
                          "mode=8", "mode=77777", "uid=4294967295", "nr_blocks=9999999999999999"})
    EXPECT_EQ(read_memfs_options(bad, 0, request).value(), EINVAL) << bad;
}

TEST(Memfs, LimitsCanBeChangedToWhatIsNotTakenYet) {
  MemfsRequest request;
  request.inodes = 2;
  const InodePtr root = make_memfs(request);
  EXPECT_TRUE(root->make("a", {0100644, 0, 0, 0}).ok());
  EXPECT_EQ(root->make("b", {0100644, 0, 0, 0}).error().value(), ENOSPC);
  EXPECT_EQ(limit_memfs(*root, "nr_inodes=1", 0).value(), EINVAL);
  EXPECT_TRUE(limit_memfs(*root, "nr_inodes=3", 0).ok());
  EXPECT_TRUE(root->make("b", {0100644, 0, 0, 0}).ok());
}

TEST(ChargedMemory, TakesADescriptorOfItsShare) {
  const auto descriptors = std::make_shared<Quota>(1);
  auto memory = ChargedMemory::create("test", {nullptr, descriptors});
  ASSERT_TRUE(memory.ok());
  EXPECT_EQ(ChargedMemory::create("test", {nullptr, descriptors}).error().value(), ENFILE);
  const InodePtr tmpfs = make_memfs(MemfsRequest{.descriptors = descriptors});
  EXPECT_EQ(tmpfs->make("f", {S_IFREG | 0644, 0, 0, 0}).error().value(), ENOSPC);
  EXPECT_TRUE(tmpfs->make("d", {S_IFDIR | 0755, 0, 0, 0}).ok());
  std::move(memory).value().reset();
  EXPECT_TRUE(tmpfs->make("f", {S_IFREG | 0644, 0, 0, 0}).ok());
}

}  // namespace
}  // namespace fluyt::guest
