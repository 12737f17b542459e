#include <sys/mount.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include <cerrno>
#include <chrono>
#include <cstdlib>

#include "image/catalog/catalog.h"
#include "image/catalog/database.h"
#include "image/catalog/schema.h"
#include "image/store_fixture.h"

namespace fluyt::image {
namespace {

using ::testing::HasSubstr;
using testing::ImageMaker;
using ::testing::IsEmpty;
using testing::TarFile;

// A small disk for the store: the machine's own free space changes all the time.
class DiskTest : public testing::StoreFixture {
 protected:
  // False when this machine has none to give.
  bool make_disk(const std::string& options) {
    if (::geteuid() != 0) return false;
    disk_ = folder_->path() + "/disk";
    const std::string file = folder_->path() + "/disk.img";
    if (!sys::make_dirs(disk_, 0700).ok()) return false;
    const std::string command = cat("truncate -s 160M ", file, " && mkfs.ext4 -q -F ", options, " ",
                                    file, " && mount -o loop ", file, " ", disk_);
    if (std::system((command + " 2>/dev/null").c_str()) != 0) return false;
    mounted_ = true;
    options_.root = disk_ + "/store";
    reopen();
    return store_ != nullptr;
  }
  void TearDown() override {
    store_.reset();
    if (!mounted_) return;
    // The thread that removes what failed has its folder open until it ends, behind the store.
    const Deadline deadline = Deadline::after_ms(10'000);
    while (::umount(disk_.c_str()) != 0) {
      ASSERT_FALSE(errno != EBUSY || deadline.passed()) << errno;
      ::usleep(10'000);
    }
  }
  struct statvfs free_now() const {
    struct statvfs info{};
    EXPECT_EQ(::statvfs(disk_.c_str(), &info), 0);
    return info;
  }
  uint64_t free_bytes() const {
    const struct statvfs info = free_now();
    return static_cast<uint64_t>(info.f_bfree) * info.f_frsize;
  }
  // What failed is removed behind whoever was told.
  void wait_for_trash() const {
    const Deadline deadline = Deadline::after_ms(60'000);
    while (!names_in("trash").empty() && !deadline.passed()) ::usleep(10'000);
    EXPECT_THAT(names_in("trash"), IsEmpty());
  }
  // To the last block: what is kept for removals is not there for others.
  void fill() const {
    const std::string command = cat(
        "dd if=/dev/zero of=", disk_, "/filler bs=1M oflag=append conv=notrunc status=none; ",
        "dd if=/dev/zero of=", disk_, "/filler bs=1k oflag=append conv=notrunc status=none; sync");
    EXPECT_EQ(std::system(cat("(", command, ") 2>/dev/null").c_str()), 0);
    EXPECT_EQ(free_now().f_bavail, 0U);
  }
  // 1 KiB each in the archive, a block and an inode each on the disk.
  static ImageMaker many_small_files(int count) {
    std::vector<TarFile> files;
    for (int i = 0; i < count; ++i) files.push_back({cat("f", i), "x"});
    ImageMaker maker;
    maker.add_layer(files);
    return maker;
  }
  // One error in a moment, nothing left, and the next pull works.
  void expect_refused_and_fine_again(const std::string& tag) {
    image_with("small").serve(*fake_, "a/small", "v1");
    const uint64_t bytes = free_bytes();
    const auto inodes = free_now().f_ffree;
    const auto begin = std::chrono::steady_clock::now();
    const auto refused = pull_to_run(tag);
    const auto took = std::chrono::steady_clock::now() - begin;
    ASSERT_FALSE(refused.ok());
    EXPECT_EQ(refused.error().code(), Code::kResourceExhausted) << refused.error().message();
    EXPECT_THAT(refused.error().message(), HasSubstr(name(tag)));
    EXPECT_LT(took, std::chrono::seconds(30));  // this machine may be very busy
    EXPECT_THAT(names_in("layers"), IsEmpty());
    EXPECT_THAT(names_in("staging"), IsEmpty());
    EXPECT_THAT(names_in("blobs/sha256"), IsEmpty());
    wait_for_trash();
    EXPECT_GE(free_bytes() + (1U << 20U), bytes);
    EXPECT_GE(free_now().f_ffree + 64, inodes);
    const auto fine = pull_to_run("a/small:v1");
    ASSERT_TRUE(fine.ok()) << fine.error().message();
    EXPECT_EQ(store_->read_image_file(fine->id, "/etc/hostname", 99).value(), "small");
  }

  std::string disk_;
  bool mounted_ = false;
};

TEST_F(DiskTest, RemovalReturnsWhenTheSpaceIsFree) {
  if (!make_disk("")) GTEST_SKIP() << "no loop-mounted ext4 is to be had";
  ImageMaker maker;
  maker.add_layer({{"data", std::string(12U << 20U, 'x')}});
  maker.serve(*fake_, "a/big", "v1");
  const auto image = pull("a/big:v1");
  ASSERT_TRUE(image.ok()) << image.error().message();
  ::sync();  // delayed allocation counts what is not yet written only roughly
  const uint64_t before = free_bytes();
  const uint64_t unique = library().describe(image->id)->value().unique_bytes;
  EXPECT_GT(unique, 24U << 20U);  // the tree and the blob
  ASSERT_TRUE(store_->remove(image->id).ok());
  EXPECT_GE(free_bytes(), before + unique - (1U << 20U));
  EXPECT_TRUE(store_->list()->empty());
}

TEST_F(DiskTest, WhatCannotFitIsRefusedBeforeItIsFetched) {
  if (!make_disk("")) GTEST_SKIP() << "no loop-mounted ext4 is to be had";
  ImageMaker maker;
  maker.add_layer({{"data", std::string(150U << 20U, 'x')}});
  maker.serve(*fake_, "a/large", "v1");
  expect_refused_and_fine_again("a/large:v1");
  EXPECT_EQ(fake_->count("GET /v2/a/large/blobs/" + testing::sha256_of(maker.layers()[0])), 0U);
}

TEST_F(DiskTest, ADiskThatFillsInMidLayerIsGivenBack) {
  if (!make_disk("-b 4096 -N 65536 -m 0")) GTEST_SKIP() << "no loop-mounted ext4 is to be had";
  many_small_files(40000).serve(*fake_, "a/many", "v1");
  expect_refused_and_fine_again("a/many:v1");
}

// Who is told of the failure does not wait until forty thousand files are gone, and who comes right
// after finds their space free.
TEST_F(DiskTest, AFailedLayerIsRemovedBehindTheError) {
  if (!make_disk("-N 20000 -m 0")) GTEST_SKIP() << "no loop-mounted ext4 is to be had";
  many_small_files(40000).serve(*fake_, "a/many", "v1");
  many_small_files(15000).serve(*fake_, "a/fits", "v1");
  bool seen = false;  // a busy machine may have let the removal win the race
  for (int i = 0; i < 5 && !seen; ++i) {
    ASSERT_FALSE(pull_to_run("a/many:v1").ok());
    seen = !sys::list_dir(path("trash"))->empty();
  }
  EXPECT_TRUE(seen) << "it was waited for";
  const auto fits = pull_to_run("a/fits:v1");
  EXPECT_TRUE(fits.ok()) << fits.error().message();
  wait_for_trash();
}

TEST_F(DiskTest, ADiskWithoutInodesIsGivenBack) {
  if (!make_disk("-N 2048 -m 0")) GTEST_SKIP() << "no loop-mounted ext4 is to be had";
  many_small_files(4000).serve(*fake_, "a/many", "v1");
  expect_refused_and_fine_again("a/many:v1");
}

TEST_F(DiskTest, AFullDiskIsOpenedAndEmptied) {
  if (!make_disk("-m 0")) GTEST_SKIP() << "no loop-mounted ext4 is to be had";
  image_with("one").serve(*fake_, "a/one", "v1");
  image_with("two").serve(*fake_, "a/two", "v1");
  const auto one = pull("a/one:v1");
  const auto two = pull("a/two:v1");
  ASSERT_TRUE(one.ok() && two.ok());
  ASSERT_TRUE(store_->create_root("c1", one->id, {}).ok());
  store_.reset();
  fill();
  reopen();
  fill();  // what the opening gave back
  EXPECT_EQ(store_->list_roots().value(), std::vector<std::string>{"c1"});
  auto removed = store_->remove_root("c1");
  EXPECT_TRUE(removed.ok()) << removed.error().message();
  removed = store_->remove(one->id);
  EXPECT_TRUE(removed.ok()) << removed.error().message();
  EXPECT_EQ(store_->list()->size(), 1U);
  ASSERT_EQ(::unlink((disk_ + "/filler").c_str()), 0);
  reopen();
  ASSERT_EQ(store_->list()->size(), 1U);
  EXPECT_EQ(store_->list()->front().id, two->id);
  EXPECT_TRUE(sys::exists(path("catalog.db.reserve"))) << "it is kept again";
  EXPECT_TRUE(pull("a/one:v1").ok());
}

// What is on the disk must not be taken for lost because another disk's worth of it came behind.
TEST_F(DiskTest, AFullDiskStillTakesDownWhatIsDurable) {
  if (!make_disk("-m 0")) GTEST_SKIP() << "no loop-mounted ext4 is to be had";
  auto catalog = Catalog::open(disk_ + "/other.db").value();
  const auto id = oci::Digest::parse("sha256:" + std::string(64, 'a')).value();
  ASSERT_TRUE(catalog->commit({.put_layers = {{id, 1, 1, false, "boot", 1}}}).ok());
  fill();
  // Until the room that the database had already is used up.
  Result<> put;
  for (int i = 0; put.ok() && i < 100'000; ++i) {
    put = catalog->commit(
        {.put_blobs = {
             {oci::Digest::parse(cat("sha256:", std::string(58, 'b'), 100'000 + i)).value(), 1}}});
  }
  ASSERT_EQ(put.error().code(), Code::kResourceExhausted);
  const auto noted = catalog->commit({.durable_layers = {id}});
  ASSERT_TRUE(noted.ok()) << noted.error().message();
  EXPECT_TRUE(catalog->read([&](const CatalogState& s) { return s.layers.at(id).durable; }));
}

// What an older program left is opened all the same, and what a pull has proven is not remembered:
// that is no reason to refuse it.
TEST_F(DiskTest, AFullDiskWithoutRoomForApprovalsIsOpenedAndUsed) {
  if (!make_disk("-m 0")) GTEST_SKIP() << "no loop-mounted ext4 is to be had";
  image_with("one").serve(*fake_, "a/one", "v1");
  const auto one = pull_to_run("a/one:v1");
  ASSERT_TRUE(one.ok());
  store_.reset();
  {
    auto database = Database::open(path("catalog.db"), kCatalogVersion).value();
    ASSERT_TRUE(database.execute("DROP TABLE approval").ok());
  }
  const std::string verifiers = folder_->path() + "/verifiers";
  ASSERT_TRUE(sys::make_dirs(verifiers, 0700).ok());
  ASSERT_TRUE(sys::write_file_atomic(sys::kCwd, verifiers + "/a",
                                     cat("#!/bin/sh\necho >> ", verifiers, ".asked\n"), 0700)
                  .ok());
  options_.verify.programs.folder = verifiers;
  fill();
  reopen();
  ASSERT_NE(store_, nullptr);
  fill();  // what the opening gave back
  const auto again = pull_to_run("a/one:v1");
  ASSERT_TRUE(again.ok()) << again.error().message();
  auto admitted = store_->admit({one->id, name("a/one:v1"), ""});
  EXPECT_TRUE(admitted.ok()) << admitted.error().message();
  ASSERT_EQ(::unlink((disk_ + "/filler").c_str()), 0);
  // From now on it is, for this run.
  ASSERT_TRUE(pull_to_run("a/one:v1").ok());
  const auto times = [&] { return sys::read_file(verifiers + ".asked", 99)->size(); };
  const size_t of_pull = times();
  admitted = store_->admit({one->id, name("a/one:v1"), ""});
  EXPECT_TRUE(admitted.ok()) << admitted.error().message();
  EXPECT_EQ(times(), of_pull);
  EXPECT_TRUE(store_->remove(one->id).ok());
  reopen();
  EXPECT_TRUE(store_->list()->empty());
}

TEST_F(DiskTest, AReadOnlyStoreIsRefusedWithItsPath) {
  if (!make_disk("")) GTEST_SKIP() << "no loop-mounted ext4 is to be had";
  image_with("one").serve(*fake_, "a/b", "v1");
  ASSERT_TRUE(pull("a/b:v1").ok());
  store_.reset();
  ASSERT_EQ(::mount(nullptr, disk_.c_str(), nullptr, MS_REMOUNT | MS_RDONLY, nullptr), 0);
  const auto opened = try_reopen();
  ASSERT_FALSE(opened.ok());
  EXPECT_THAT(opened.error().message(), HasSubstr(options_.root));
  EXPECT_EQ(opened.error().errno_value(), EROFS) << opened.error().message();
  ASSERT_EQ(::mount(nullptr, disk_.c_str(), nullptr, MS_REMOUNT, nullptr), 0);
  reopen();
  EXPECT_EQ(store_->list()->size(), 1U);
}

}  // namespace
}  // namespace fluyt::image
