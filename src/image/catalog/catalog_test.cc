#include "image/catalog/catalog.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "base/strings.h"
#include "image/catalog/database.h"
#include "image/catalog/schema.h"
#include "sys/file.h"

namespace fluyt::image {
namespace {

using ::testing::HasSubstr;

oci::Digest digest(char c) { return oci::Digest::from_sha256_hex(std::string(64, c)); }

class CatalogTest : public ::testing::Test {
 protected:
  void SetUp() override {
    folder_ = std::make_unique<sys::TempDir>(sys::TempDir::create().value());
    path_ = folder_->path() + "/catalog.db";
    reopen();
  }
  void reopen() {
    catalog_.reset();
    auto opened = Catalog::open(path_);
    ASSERT_TRUE(opened.ok()) << opened.error().message();
    catalog_ = std::move(*opened);
  }
  void commit(const CatalogChange& change) {
    auto done = catalog_->commit(change);
    ASSERT_TRUE(done.ok()) << done.error().message();
  }
  CatalogState state() const {
    return catalog_->read([](const CatalogState& s) { return s; });
  }
  static ImageRow image(char id, std::vector<char> layers) {
    ImageRow out{digest(id).text(), digest('e'), 42, {}, {digest(id), digest('e')}, false, 7};
    for (const char c : layers) out.layers.push_back({digest(c), digest('f'), 10});
    return out;
  }
  static LayerRow layer(char id) { return {digest(id), 4096, 3, false, "boot", 77}; }

  std::unique_ptr<sys::TempDir> folder_;
  std::string path_;
  std::unique_ptr<Catalog> catalog_;
};

TEST_F(CatalogTest, WhatWasCommittedIsThereAfterOpening) {
  CatalogChange change;
  change.put_layers = {layer('1'), layer('2')};
  change.put_blobs = {{digest('f'), 10}, {digest('e'), 1U << 31U}};
  change.put_images = {image('a', {'2', '1'})};
  change.put_names = {{"r/x:1", image('a', {}).id},
                      {"r/x@" + digest('e').text(), image('a', {}).id}};
  change.put_roots = {{"c1", image('a', {}).id, {digest('2'), digest('1')}}};
  commit(change);
  const CatalogState before = state();
  reopen();
  const CatalogState after = state();
  EXPECT_EQ(before.images, after.images);
  EXPECT_EQ(before.names, after.names);
  EXPECT_EQ(before.layers, after.layers);
  EXPECT_EQ(before.blobs, after.blobs);
  EXPECT_EQ(after.blobs.size(), 2U);
  EXPECT_EQ(before.roots, after.roots);
  EXPECT_EQ(after.images.begin()->second, image('a', {'2', '1'}));
}

TEST_F(CatalogTest, AnImageGoesWithItsNamesAndLeavesRootsAlone) {
  CatalogChange change;
  change.put_layers = {layer('1')};
  change.put_images = {image('a', {'1'})};
  change.put_names = {{"r/x:1", image('a', {}).id}};
  change.put_roots = {{"c1", image('a', {}).id, {digest('1')}}};
  commit(change);
  commit({.drop_images = {image('a', {}).id}});
  reopen();
  EXPECT_TRUE(state().images.empty());
  EXPECT_TRUE(state().names.empty());
  EXPECT_EQ(state().roots.size(), 1U);
  EXPECT_EQ(state().layers.size(), 1U);
}

TEST_F(CatalogTest, ALayerInUseCannotBeDroppedAndNothingElseHappens) {
  CatalogChange change;
  change.put_layers = {layer('1')};
  change.put_images = {image('a', {'1'})};
  change.put_names = {{"r/x:1", image('a', {}).id}};
  commit(change);
  EXPECT_FALSE(catalog_->commit({.drop_names = {"r/x:1"}, .drop_layers = {digest('1')}}).ok());
  EXPECT_EQ(state().names.size(), 1U);
  reopen();
  EXPECT_EQ(state().names.size(), 1U);
  EXPECT_EQ(state().layers.size(), 1U);
}

TEST_F(CatalogTest, ANameMovesToAnotherImage) {
  CatalogChange change;
  change.put_layers = {layer('1')};
  change.put_images = {image('a', {'1'}), image('b', {'1'})};
  change.put_names = {{"r/x:1", image('a', {}).id}};
  commit(change);
  commit({.put_names = {{"r/x:1", image('b', {}).id}}});
  EXPECT_EQ(state().names.at("r/x:1"), image('b', {}).id);
  reopen();
  EXPECT_EQ(state().names.at("r/x:1"), image('b', {}).id);
}

TEST_F(CatalogTest, ANameNeedsAnImage) {
  CatalogChange change;
  change.put_layers = {layer('1')};
  change.put_images = {image('a', {'1'})};
  change.put_names = {{"r/x:1", image('a', {}).id}};
  commit(change);
  const auto named = [&](CatalogChange more) {
    more.put_names = {{"r/x:1", image('a', {}).id}, {"r/y:1", image('b', {}).id}};
    return catalog_->commit(more);
  };
  const auto absent = named({});
  ASSERT_FALSE(absent.ok());
  EXPECT_EQ(absent.error().code(), Code::kNotFound);
  EXPECT_THAT(absent.error().message(), testing::HasSubstr("r/y:1"));
  const auto going = named({.drop_images = {image('a', {}).id}, .put_images = {image('b', {'1'})}});
  ASSERT_FALSE(going.ok());
  EXPECT_EQ(going.error().code(), Code::kNotFound);
  EXPECT_EQ(state().images.size(), 1U);
  EXPECT_TRUE(named({.put_images = {image('b', {'1'})}}).ok());
  EXPECT_EQ(state().names.size(), 2U);
}

TEST_F(CatalogTest, LayersBecomeDurable) {
  commit({.put_layers = {layer('1'), layer('2')}});
  commit({.durable_layers = {digest('2'), digest('9')}});
  reopen();
  EXPECT_FALSE(state().layers.at(digest('1')).durable);
  EXPECT_TRUE(state().layers.at(digest('2')).durable);
}

TEST_F(CatalogTest, BlobsAreDropped) {
  commit({.put_blobs = {{digest('1'), 1}, {digest('2'), 2}}});
  commit({.drop_blobs = {digest('1'), digest('9')}});
  reopen();
  ASSERT_EQ(state().blobs.size(), 1U);
  EXPECT_EQ(state().blobs.at(digest('2')).bytes, 2U);
}

TEST_F(CatalogTest, ApprovalsGoWithTheirImage) {
  CatalogChange change;
  change.put_layers = {layer('1')};
  change.put_images = {image('a', {'1'}), image('b', {'1'})};
  const ApprovalRow of_a{image('a', {}).id, "r/x:1", digest('e'), "sha256:rules"};
  const ApprovalRow of_b{image('b', {}).id, "r/x:1", digest('e'), "sha256:rules"};
  change.put_approvals = {of_a, of_b};
  commit(change);
  commit({.put_approvals = {of_a}});  // again
  reopen();
  EXPECT_EQ(state().approvals, (std::set<ApprovalRow>{of_a, of_b}));
  commit({.drop_images = {of_a.image_id}});
  EXPECT_EQ(state().approvals, std::set<ApprovalRow>{of_b});
  reopen();
  EXPECT_EQ(state().approvals, std::set<ApprovalRow>{of_b});
  commit({.drop_approvals = {of_b}});
  reopen();
  EXPECT_TRUE(state().approvals.empty());
  const auto late = catalog_->commit({.put_approvals = {of_a}});
  ASSERT_FALSE(late.ok());
  EXPECT_EQ(late.error().code(), Code::kNotFound);
}

// A file of this version by a program that knew no approvals, and such a program on a file that has
// some: it drops an image without a word of them.
TEST_F(CatalogTest, ApprovalsNeedNoOtherVersion) {
  CatalogChange change;
  change.put_layers = {layer('1')};
  change.put_images = {image('a', {'1'})};
  const ApprovalRow of_a{image('a', {}).id, "r/x:1", digest('e'), "sha256:rules"};
  change.put_approvals = {of_a};
  commit(change);
  catalog_.reset();
  {
    auto database = Database::open(path_, kCatalogVersion).value();
    ASSERT_TRUE(database.execute("DELETE FROM image").ok());
  }
  reopen();
  EXPECT_TRUE(state().approvals.empty());
  catalog_.reset();
  {
    auto database = Database::open(path_, kCatalogVersion).value();
    ASSERT_TRUE(database.execute("DROP TABLE approval").ok());
  }
  reopen();
  EXPECT_TRUE(state().approvals.empty());
}

// A file as the first version left it.
TEST_F(CatalogTest, AFileOfVersionOneIsBroughtUpToDate) {
  CatalogChange change;
  change.put_layers = {layer('1')};
  change.put_images = {image('a', {'1'})};
  change.put_names = {{"r/x:1", image('a', {}).id}};
  commit(change);
  catalog_.reset();
  {
    auto database = Database::open(path_, kCatalogVersion).value();
    ASSERT_TRUE(
        database.execute("DROP TABLE blob; DROP TABLE generation; PRAGMA user_version=1").ok());
  }
  reopen();
  EXPECT_EQ(state().images.at(image('a', {}).id), image('a', {'1'}));
  commit({.put_blobs = {{digest('1'), 1}}});
  reopen();
  EXPECT_EQ(state().blobs.size(), 1U);
}

TEST_F(CatalogTest, ANewerVersionIsRefusedUntouched) {
  catalog_.reset();
  {
    auto database = Database::open(path_, kCatalogVersion).value();
    ASSERT_TRUE(database.execute("PRAGMA user_version=99").ok());
  }
  const std::string before = sys::read_file(path_, 1U << 20U).value();
  auto opened = Catalog::open(path_);
  ASSERT_FALSE(opened.ok());
  EXPECT_EQ(opened.error().code(), Code::kFailedPrecondition);
  EXPECT_THAT(opened.error().message(), HasSubstr("is of version 99, this program knows up to 3"));
  EXPECT_EQ(sys::read_file(path_, 1U << 20U).value(), before);
}

TEST_F(CatalogTest, AFileThatIsNoDatabaseIsDataLoss) {
  catalog_.reset();
  const std::string junk = folder_->path() + "/junk.db";
  ASSERT_TRUE(sys::write_file_atomic(sys::kCwd, junk, std::string(8192, 'x'), 0600).ok());
  auto opened = Catalog::open(junk);
  ASSERT_FALSE(opened.ok());
  EXPECT_EQ(opened.error().code(), Code::kDataLoss);
  EXPECT_THAT(opened.error().message(), HasSubstr("junk.db"));
}

}  // namespace
}  // namespace fluyt::image
