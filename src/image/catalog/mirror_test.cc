#include "image/catalog/mirror.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>

#include "base/strings.h"
#include "sys/file.h"

namespace fluyt::image {
namespace {

using ::testing::HasSubstr;

oci::Digest digest(char c) { return oci::Digest::from_sha256_hex(std::string(64, c)); }

class MirrorTest : public ::testing::Test {
 protected:
  void SetUp() override {
    folder_ = std::make_unique<sys::TempDir>(sys::TempDir::create().value());
    root_ = folder_->path() + "/store";
    ASSERT_TRUE(sys::make_dirs(root_, 0700).ok());
    ASSERT_TRUE(open());
    CatalogChange change;
    for (const char id : {'1', '2', '3'}) {
      change.put_layers.push_back({digest(id), 4096, 3, id == '1', "boot", 77});
    }
    change.put_images = {image('a', {'1', '2'}), image('b', {'1', '3'})};
    change.put_names = {{"r/x:1", id_of('a')}, {"r/x@" + digest('e').text(), id_of('a')}};
    change.put_roots = {{"c1", id_of('a'), {digest('1'), digest('2')}}};
    commit(change);
    commit({.durable_layers = {digest('2')}});
    commit({.put_names = {{"r/y:2", id_of('b')}, {"r/x:1", id_of('b')}}});
    commit({.put_roots = {{"c2", id_of('b'), {digest('1'), digest('3')}}}});
    before_ = state();
  }
  bool open() {
    catalog_.reset();
    auto opened = Catalog::open_mirrored(root_ + "/catalog.db", logger_);
    EXPECT_TRUE(opened.ok()) << opened.error().message();
    if (!opened.ok()) return false;
    catalog_ = std::move(*opened);
    return true;
  }
  void commit(const CatalogChange& change) {
    auto done = catalog_->commit(change);
    ASSERT_TRUE(done.ok()) << done.error().message();
  }
  CatalogState state() const {
    return catalog_->read([](const CatalogState& s) { return s; });
  }
  static std::string id_of(char c) { return digest(c).text(); }
  static ImageRow image(char id, const std::vector<char>& layers) {
    ImageRow out{id_of(id), digest('e'), 42, {}, {digest(id), digest('e')}, false, 7};
    for (const char c : layers) out.layers.push_back({digest(c), digest('f'), 10});
    return out;
  }
  std::string database() const { return root_ + "/catalog.db"; }
  std::string bytes() const { return sys::read_file(database(), 1U << 24U).value(); }
  void write(const std::string& content) const {
    ASSERT_TRUE(sys::write_file_atomic(sys::kCwd, database(), content, 0600).ok());
  }
  size_t moved_aside() const {
    size_t count = 0;
    const auto names = sys::list_dir(root_).value();
    for (const std::string& name : names) {
      count += name.starts_with("catalog.db.damaged-") ? 1U : 0U;
    }
    return count;
  }
  void expect_all_back() {
    ASSERT_TRUE(open());
    const CatalogState after = state();
    EXPECT_EQ(after.images, before_.images);
    EXPECT_EQ(after.names, before_.names);
    EXPECT_EQ(after.layers, before_.layers);
    EXPECT_EQ(after.roots, before_.roots);
  }

  NullLogger logger_;
  std::unique_ptr<sys::TempDir> folder_;
  std::string root_;
  std::unique_ptr<Catalog> catalog_;
  CatalogState before_;
};

TEST_F(MirrorTest, AGoodDatabaseIsLeftAlone) {
  expect_all_back();
  EXPECT_EQ(moved_aside(), 0U);
}

TEST_F(MirrorTest, ADeletedDatabaseIsMadeAgain) {
  catalog_.reset();
  ASSERT_TRUE(sys::remove_file(sys::kCwd, database()).ok());
  expect_all_back();
  expect_all_back();  // and stays
}

TEST_F(MirrorTest, ADatabaseOfZerosIsMadeAgain) {
  catalog_.reset();
  write(std::string(bytes().size(), '\0'));
  expect_all_back();
  EXPECT_EQ(moved_aside(), 1U);
}

TEST_F(MirrorTest, ACutDatabaseIsMadeAgain) {
  catalog_.reset();
  write(bytes().substr(0, bytes().size() / 2 + 100));
  expect_all_back();
  EXPECT_EQ(moved_aside(), 1U);
}

TEST_F(MirrorTest, EachPageMayBeTorn) {
  catalog_.reset();
  const std::string good = bytes();
  for (size_t at = 0; at < good.size(); at += 4096) {
    std::string torn = good;
    torn.replace(at, 4096, std::string(std::min<size_t>(4096, good.size() - at), '\xA5'));
    write(torn);
    expect_all_back();
    catalog_.reset();
  }
}

TEST_F(MirrorTest, ALogThatWasRemovedLosesNothing) {
  // As a killed process leaves it, without its log.
  const std::string old = bytes();
  commit({.drop_images = {id_of('b')}, .drop_roots = {"c2"}});
  commit({.put_names = {{"r/z:1", id_of('a')}}});
  before_ = state();
  std::filesystem::copy(root_ + "/mirror", folder_->path() + "/mirror",
                        std::filesystem::copy_options::recursive);
  catalog_.reset();
  write(old);
  ASSERT_TRUE(sys::remove_tree(root_ + "/mirror").ok());
  std::filesystem::rename(folder_->path() + "/mirror", root_ + "/mirror");
  ASSERT_TRUE(open());
  const CatalogState after = state();
  EXPECT_EQ(after.images, before_.images);
  EXPECT_EQ(after.names, before_.names);
  EXPECT_EQ(after.roots, before_.roots);
}

TEST_F(MirrorTest, ARootThatAPowerCutTookFromTheDatabaseIsTakenBack) {
  catalog_.reset();
  const std::string old = bytes();
  ASSERT_TRUE(open());
  commit({.put_roots = {{"c3", id_of('b'), {digest('1'), digest('3')}}}});
  before_ = state();
  catalog_.reset();
  write(old);
  expect_all_back();
  EXPECT_EQ(moved_aside(), 0U) << "it is no damage";
}

TEST_F(MirrorTest, ACommitThatWasNotMirroredIsMirroredAtTheNextStart) {
  const std::string file = cat(root_, "/mirror/images/", digest('a').hex(), ".json");
  const std::string old = sys::read_file(file, 1U << 20U).value();
  commit({.put_names = {{"r/z:1", id_of('a')}}});
  commit({.drop_images = {id_of('b')}});
  before_ = state();
  catalog_.reset();
  ASSERT_TRUE(sys::write_file_atomic(sys::kCwd, file, old, 0600).ok());
  ASSERT_TRUE(sys::write_file_atomic(
                  sys::kCwd, cat(root_, "/mirror/images/", digest('9').hex(), ".json"), "{", 0600)
                  .ok());
  ASSERT_TRUE(open());
  EXPECT_EQ(state().names, before_.names);
  EXPECT_EQ(moved_aside(), 0U);
  catalog_.reset();
  ASSERT_TRUE(sys::remove_file(sys::kCwd, database()).ok());
  ASSERT_TRUE(open());
  EXPECT_EQ(state().names, before_.names);
  EXPECT_EQ(state().images, before_.images);
}

TEST_F(MirrorTest, WithoutAMirrorADamagedDatabaseIsRefused) {
  catalog_.reset();
  ASSERT_TRUE(sys::remove_tree(root_ + "/mirror").ok());
  write(std::string(8192, 'x'));
  auto opened = Catalog::open_mirrored(database(), logger_);
  ASSERT_FALSE(opened.ok());
  EXPECT_EQ(opened.error().code(), Code::kDataLoss);
  EXPECT_EQ(bytes(), std::string(8192, 'x'));
}

TEST_F(MirrorTest, ANewerDatabaseIsNotTakenForADamagedOne) {
  catalog_.reset();
  std::string newer = bytes();
  newer[63] = 99;  // user_version, at 60, big-endian
  write(newer);
  auto opened = Catalog::open_mirrored(database(), logger_);
  ASSERT_FALSE(opened.ok());
  EXPECT_EQ(opened.error().code(), Code::kFailedPrecondition);
  EXPECT_EQ(moved_aside(), 0U);
}

}  // namespace
}  // namespace fluyt::image
