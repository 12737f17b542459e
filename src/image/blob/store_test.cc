#include "image/blob/store.h"

#include <gtest/gtest.h>

#include "image/blob/hasher.h"
#include "sys/file.h"

namespace fluyt::image {
namespace {

class BlobStoreTest : public testing::Test {
 protected:
  sys::TempDir dir_ = sys::TempDir::create().value();
  BlobStore store_ = BlobStore::open(dir_.path() + "/blobs").value();
  oci::Digest digest_ = digest_of("sha256", "hello").value();
  std::string file() const { return dir_.path() + "/blobs/sha256/" + std::string(digest_.hex()); }
};

TEST(Hasher, KnownDigests) {
  EXPECT_EQ(digest_of("sha256", "")->text(),
            "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
  EXPECT_EQ(digest_of("sha512", "abc")->text(),
            "sha512:"
            "ddaf35a193617abacc417349ae20413112e6fa4e89a97ea20a9eeee64b55d39a2192992a274fc1a836ba3c"
            "23a3feebbd"
            "454d4423643ce80e2a9ac94fa54ca49f");
  EXPECT_EQ(digest_of("md5", "").error().code(), Code::kInvalidArgument);
}

TEST_F(BlobStoreTest, KeepsWhatMatches) {
  ASSERT_TRUE(store_.put(digest_, "hello").ok());
  ASSERT_TRUE(store_.put(digest_, "hello").ok());
  EXPECT_EQ(store_.get(digest_, 5).value(), "hello");
  EXPECT_EQ(store_.find_size(digest_).value(), 5U);
  EXPECT_EQ(store_.list().value(), std::vector{digest_});
  EXPECT_EQ(store_.get(digest_, 4).error().code(), Code::kResourceExhausted);
  ASSERT_TRUE(store_.remove(digest_).ok());
  ASSERT_TRUE(store_.remove(digest_).ok());
  EXPECT_EQ(store_.find_size(digest_).value(), std::nullopt);
  EXPECT_EQ(store_.get(digest_, 5).error().code(), Code::kNotFound);
}

TEST_F(BlobStoreTest, RefusesWhatDoesNotMatch) {
  EXPECT_EQ(store_.put(digest_, "hullo").error().code(), Code::kDataLoss);
  EXPECT_TRUE(store_.list()->empty());
}

TEST_F(BlobStoreTest, SeesAndMendsDamageOnDisk) {
  ASSERT_TRUE(store_.put(digest_, "hello").ok());
  ASSERT_TRUE(sys::write_file_atomic(sys::kCwd, file(), "hellO", 0600).ok());
  EXPECT_EQ(store_.get(digest_, 5).error().code(), Code::kDataLoss);
  ASSERT_TRUE(store_.put(digest_, "hello").ok());
  EXPECT_EQ(store_.get(digest_, 5).value(), "hello");
}

TEST_F(BlobStoreTest, SweepsWhatADeadProcessLeft) {
  ASSERT_TRUE(sys::write_file_atomic(sys::kCwd, file() + ".0123.tmp", "hel", 0600).ok());
  ASSERT_TRUE(BlobStore::open(dir_.path() + "/blobs").ok());
  EXPECT_FALSE(sys::exists(file() + ".0123.tmp"));
}

TEST_F(BlobStoreTest, AWriterKeepsWhatMatches) {
  auto writer = store_.create(digest_, 5).value();
  ASSERT_TRUE(writer.write("hel").ok());
  EXPECT_EQ(store_.find_size(digest_).value(), std::nullopt);
  ASSERT_TRUE(writer.write("lo").ok());
  ASSERT_TRUE(writer.finish().ok());
  EXPECT_TRUE(store_.check(digest_).ok());
  EXPECT_EQ(store_.get(digest_, 5).value(), "hello");
  EXPECT_EQ(sys::list_dir(dir_.path() + "/blobs/sha256")->size(), 1U);
}

TEST_F(BlobStoreTest, AWriterRefusesWhatDoesNotMatchAndLeavesNothing) {
  {
    auto writer = store_.create(digest_, 5).value();
    EXPECT_EQ(writer.write("hello!").error().code(), Code::kDataLoss);
    auto short_one = store_.create(digest_, 5).value();
    ASSERT_TRUE(short_one.write("hell").ok());
    EXPECT_EQ(short_one.finish().error().code(), Code::kDataLoss);
    auto wrong = store_.create(digest_, 5).value();
    ASSERT_TRUE(wrong.write("hallo").ok());
    EXPECT_EQ(wrong.finish().error().code(), Code::kDataLoss);
    auto dropped = store_.create(digest_, 5).value();
    ASSERT_TRUE(dropped.write("hello").ok());
  }
  EXPECT_TRUE(sys::list_dir(dir_.path() + "/blobs/sha256")->empty());
}

TEST_F(BlobStoreTest, CheckFindsAChangedByte) {
  ASSERT_TRUE(store_.put(digest_, "hello").ok());
  ASSERT_TRUE(sys::write_file_atomic(sys::kCwd, file(), "hellO", 0600).ok());
  EXPECT_EQ(store_.check(digest_).error().code(), Code::kDataLoss);
  ASSERT_TRUE(store_.remove(digest_).ok());
  EXPECT_EQ(store_.check(digest_).error().code(), Code::kNotFound);
}

}  // namespace
}  // namespace fluyt::image
