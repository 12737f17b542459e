#include <malloc.h>

#include <atomic>
#include <mutex>
#include <set>

#include "image/store_fixture.h"

namespace fluyt::image {
namespace {

using ::testing::Contains;
using ::testing::ElementsAre;
using testing::FakeRegistry;
using ::testing::HasSubstr;
using testing::ImageMaker;
using ::testing::IsEmpty;
using ::testing::Not;
using testing::sha256_of;
using ::testing::UnorderedElementsAre;

class VerbsTest : public testing::StoreFixture {
 protected:
  // The archive of these images, in a file.
  Result<std::string> save(const SaveOptions& options) {
    std::string bytes;
    FLUYT_TRY(library().save(options, [&](std::string_view piece) -> Result<> {
      bytes += piece;
      return {};
    }));
    std::string file = folder_->path() + "/saved.tar";
    FLUYT_TRY(sys::write_file_atomic(sys::kCwd, file, bytes, 0600));
    return file;
  }
  Result<Pushed> push(const std::string& tag) {
    return library().push(oci::Reference::parse(name(tag)).value(), {});
  }
};

TEST_F(VerbsTest, ATagIsAnotherNameAndMoves) {
  image_with("one").serve(*fake_, "a/b", "v1");
  image_with("two").serve(*fake_, "a/b", "v2");
  const Image one = pull("a/b:v1").value();
  const Image two = pull("a/b:v2").value();
  auto tagged = library().tag(one.id.substr(7, 12), "mine");
  ASSERT_TRUE(tagged.ok()) << tagged.error().message();
  EXPECT_THAT(tagged->repo_tags,
              UnorderedElementsAre(name("a/b:v1"), "docker.io/library/mine:latest"));
  ASSERT_TRUE(library().tag(name("a/b:v2"), "mine:latest").ok());
  EXPECT_EQ(store_->find("mine")->value().id, two.id);
  EXPECT_THAT(store_->find(one.id)->value().repo_tags, ElementsAre(name("a/b:v1")));
  reopen();
  EXPECT_EQ(store_->find("mine")->value().id, two.id);
  EXPECT_EQ(library().tag("nothing", "mine").error().code(), Code::kNotFound);
  const auto bad = library().tag("mine", "a@" + one.id).error();
  EXPECT_EQ(bad.code(), Code::kInvalidArgument);
  EXPECT_THAT(bad.message(), HasSubstr("expected a name with a tag"));
  EXPECT_EQ(library().tag("mine", "UPPER").error().code(), Code::kInvalidArgument);
}

TEST_F(VerbsTest, DetailsSayWhoSharesWhat) {
  const ImageMaker maker = image_with("one");
  maker.serve(*fake_, "a/b", "v1");
  image_with("two").serve(*fake_, "a/b", "v2");
  const Image one = pull("a/b:v1").value();
  const Image two = pull_to_run("a/b:v2").value();
  ASSERT_TRUE(store_->create_root("c1", one.id).ok());
  const auto found = library().describe(name("a/b:v1"));
  ASSERT_TRUE(found.ok()) << found.error().message();
  const ImageDetail& detail = **found;
  ASSERT_EQ(detail.layers.size(), 2U);
  EXPECT_THAT(detail.layers[0].images, ElementsAre(two.id));
  EXPECT_THAT(detail.layers[1].images, IsEmpty());
  EXPECT_THAT(detail.layers[0].containers, ElementsAre("c1"));
  EXPECT_THAT(detail.containers, ElementsAre("c1"));
  EXPECT_TRUE(detail.pushable);
  EXPECT_EQ(detail.config_json, maker.config_json());
  EXPECT_EQ(detail.manifest_json, maker.manifest_json());
  EXPECT_EQ(detail.disk_bytes, detail.shared_bytes + detail.unique_bytes);
  EXPECT_EQ(detail.shared_bytes,
            detail.layers[0].disk_bytes + (detail.layers[0].blob_bytes + 4095) / 4096 * 4096);
  // What is unique to an image is what its removal gives back.
  const auto listed = library().list_details();
  ASSERT_EQ(listed.size(), 2U);
  const ImageDetail& other = listed[0].image.id == two.id ? listed[0] : listed[1];
  EXPECT_FALSE(other.pushable);
  const uint64_t before = store_->fs_usage()->used_bytes;
  ASSERT_TRUE(store_->remove(two.id).ok());
  EXPECT_EQ(before - store_->fs_usage()->used_bytes, other.unique_bytes);
  EXPECT_FALSE(library().describe("nothing")->has_value());
}

TEST_F(VerbsTest, WhatWasSavedIsImportedAgain) {
  const ImageMaker one = image_with("one");
  const ImageMaker two = image_with("two");
  one.serve(*fake_, "a/b", "v1");
  two.serve(*fake_, "a/b", "v2");
  ASSERT_TRUE(pull("a/b:v1").ok());
  const Image second = pull("a/b:v2").value();
  ASSERT_TRUE(library().tag(name("a/b:v1"), "short:1").ok());
  for (const ArchiveFormat format : {ArchiveFormat::kDocker, ArchiveFormat::kOci}) {
    const auto file = save({.images = {name("a/b:v1"), "short:1", second.id}, .format = format});
    ASSERT_TRUE(file.ok()) << file.error().message();
    options_.root = cat(folder_->path(), "/other", static_cast<int>(format));
    reopen();
    const auto images = store_->import(*file, {});
    ASSERT_TRUE(images.ok()) << images.error().message();
    const auto back = store_->find("short:1").value();
    ASSERT_TRUE(back.has_value());
    EXPECT_EQ(back->id, one.image_id());
    EXPECT_THAT(back->repo_tags, UnorderedElementsAre(name("a/b:v1"), "docker.io/library/short:1"));
    EXPECT_THAT(store_->find(second.id)->value().repo_tags, IsEmpty());
    EXPECT_EQ(store_->read_image_file(second.id, "/etc/hostname", 99).value(), "two");
    EXPECT_EQ(library().describe("short:1")->value().manifest_json, one.manifest_json());
    // And once more, from what was imported.
    EXPECT_TRUE(save({.images = {"short:1"}, .format = format}).ok());
    options_.root = folder_->path() + "/store";
    reopen();
  }
}

TEST_F(VerbsTest, SavedImagesShareTheirBlobsAndTheArchiveIsTheSameAgain) {
  image_with("one").serve(*fake_, "a/b", "v1");
  image_with("two").serve(*fake_, "a/b", "v2");
  ASSERT_TRUE(pull("a/b:v1").ok());
  ASSERT_TRUE(pull("a/b:v2").ok());
  const auto size_of = [&](const std::vector<std::string>& images) {
    return sys::read_file(save({.images = images}).value(), 1U << 30U)->size();
  };
  const size_t one = size_of({name("a/b:v1")});
  const size_t both = size_of({name("a/b:v1"), name("a/b:v2")});
  EXPECT_LT(both, 2 * one - 1024);
  EXPECT_EQ(sys::read_file(save({.images = {name("a/b:v1")}}).value(), 1U << 30U).value(),
            sys::read_file(save({.images = {name("a/b:v1")}}).value(), 1U << 30U).value());
}

TEST_F(VerbsTest, AnImageWithoutItsBlobsIsNotSent) {
  const ImageMaker maker = image_with("one");
  maker.serve(*fake_, "a/b", "v1");
  fake_->accept_uploads({});
  const Image image = pull_to_run("a/b:v1").value();
  ASSERT_TRUE(library().tag(image.id, name("c/d:v2")).ok());
  EXPECT_FALSE(library().describe(image.id)->value().pushable);
  for (const auto& error : {save({.images = {image.id}}).error(), push("c/d:v2").error()}) {
    EXPECT_EQ(error.code(), Code::kFailedPrecondition);
    EXPECT_THAT(error.message(), HasSubstr("2 of its 2 layers are here as trees alone"));
    EXPECT_THAT(error.message(), HasSubstr("image.keep_blobs"));
  }
  EXPECT_EQ(fake_->uploads_under_way(), 0U);
  EXPECT_EQ(fake_->content("/v2/c/d/manifests/v2"), std::nullopt);
  // Where the registry has the blobs, in the same repository or in another, none is needed here.
  auto pushed = push("a/b:v1");
  ASSERT_TRUE(pushed.ok()) << pushed.error().message();
  EXPECT_EQ(pushed->digest, maker.manifest_digest());
  fake_->accept_uploads({.mountable_from = "a/b"});
  pushed = push("c/d:v2");
  ASSERT_TRUE(pushed.ok()) << pushed.error().message();
  EXPECT_EQ(pushed->digest, maker.manifest_digest());
  EXPECT_EQ(pushed->remade_layers, 0U);
  ASSERT_TRUE(pull("a/b:v1").ok());
  EXPECT_TRUE(save({.images = {image.id}}).ok());
  EXPECT_EQ(save({.images = {"nothing"}}).error().code(), Code::kNotFound);
  EXPECT_EQ(save({}).error().code(), Code::kInvalidArgument);
}

// An EROFS image has its layer's tar in it.
TEST_F(VerbsTest, AnImageOfImagesIsSentWithoutItsBlobs) {
  options_.layer_form = LayerForm::kErofs;
  if (const auto opened = try_reopen(); !opened.ok()) GTEST_SKIP() << opened.error().message();
  const ImageMaker maker = image_with("one");
  maker.serve(*fake_, "a/b", "v1");
  fake_->accept_uploads({});
  const Image image = pull_to_run("a/b:v1").value();
  EXPECT_TRUE(library().describe(image.id)->value().pushable);
  ASSERT_TRUE(library().tag(image.id, name("c/d:v2")).ok());
  const auto pushed = push("c/d:v2");
  ASSERT_TRUE(pushed.ok()) << pushed.error().message();
  EXPECT_EQ(pushed->remade_layers, 2U);
  EXPECT_NE(pushed->digest, maker.manifest_digest());
  EXPECT_THAT(names_in("staging"), IsEmpty());
  // Its manifest is not here: no name of ours stands for it.
  const auto after = store_->find(image.id).value();
  ASSERT_TRUE(after.has_value());
  EXPECT_THAT(after->repo_digests, Not(Contains(HasSubstr(pushed->digest))));
  const auto manifest = oci::parse_manifest(fake_->content("/v2/c/d/manifests/v2").value());
  ASSERT_TRUE(manifest.ok());
  EXPECT_EQ(manifest->config.digest.text(), image.id);
  EXPECT_EQ(manifest->layers[0].media_type, oci::media_type::kOciLayerGzip);
  // Twice the same bytes, which the registry then has.
  const auto again = push("c/d:v2");
  ASSERT_TRUE(again.ok()) << again.error().message();
  EXPECT_EQ(again->digest, pushed->digest);
  EXPECT_EQ(again->remade_layers, 2U);
  std::vector<std::string> files;
  for (const ArchiveFormat format : {ArchiveFormat::kDocker, ArchiveFormat::kOci}) {
    const auto saved = save({.images = {name("c/d:v2")}, .format = format});
    ASSERT_TRUE(saved.ok()) << saved.error().message();
    files.push_back(*saved + (format == ArchiveFormat::kOci ? ".oci" : ".docker"));
    ASSERT_EQ(::rename(saved->c_str(), files.back().c_str()), 0);
  }
  // All three give back the same image.
  for (const LayerForm form : {LayerForm::kErofs, LayerForm::kDirectory}) {
    options_.layer_form = form;
    reopen();
    ASSERT_TRUE(store_->remove(image.id).ok());
    const auto back = pull("c/d:v2");
    ASSERT_TRUE(back.ok()) << back.error().message();
    EXPECT_EQ(back->id, image.id);
    EXPECT_EQ(store_->read_image_file(back->id, "/etc/hostname", 99).value(), "one");
    for (const std::string& file : files) {
      ASSERT_TRUE(store_->remove(image.id).ok());
      const auto imported = store_->import(file, {});
      ASSERT_TRUE(imported.ok()) << imported.error().message();
      EXPECT_EQ(imported->front().id, image.id);
      EXPECT_EQ(store_->read_image_file(image.id, "/etc/hostname", 99).value(), "one");
    }
  }
}

TEST_F(VerbsTest, WithoutAChosenFormLayersAreWhatTheKernelMounts) {
  options_.layer_form = LayerForm::kErofs;
  const bool mounts_images = try_reopen().ok();
  options_.layer_form = std::nullopt;
  ASSERT_TRUE(try_reopen().ok());
  const ImageMaker maker = image_with("one");
  maker.serve(*fake_, "a/b", "v1");
  ASSERT_TRUE(pull("a/b:v1").ok());
  const std::string layer = cat("layers/", sha256_of(maker.layers()[1]).substr(7));
  EXPECT_EQ(sys::exists(path(layer + "/layer.erofs")), mounts_images);
}

TEST_F(VerbsTest, ADamagedImageIsNotSent) {
  options_.layer_form = LayerForm::kErofs;
  if (const auto opened = try_reopen(); !opened.ok()) GTEST_SKIP() << opened.error().message();
  const ImageMaker maker = image_with("one");
  maker.serve(*fake_, "a/b", "v1");
  fake_->accept_uploads({});
  const Image image = pull_to_run("a/b:v1").value();
  ASSERT_TRUE(library().tag(image.id, name("c/d:v2")).ok());
  const std::string file = cat("layers/", sha256_of(maker.layers()[1]).substr(7), "/layer.erofs");
  std::string bytes = sys::read_file(path(file), 1U << 20U).value();
  bytes[4096 + 700] ^= 1;
  write(file, bytes);
  for (const auto& error : {save({.images = {image.id}}).error(), push("c/d:v2").error()}) {
    EXPECT_EQ(error.code(), Code::kDataLoss);
    EXPECT_THAT(error.message(), HasSubstr(sha256_of(maker.layers()[1])));
  }
  EXPECT_EQ(fake_->content("/v2/c/d/manifests/v2"), std::nullopt);
}

TEST_F(VerbsTest, ADamagedBlobIsNotSaved) {
  const ImageMaker maker = image_with("one");
  maker.serve(*fake_, "a/b", "v1");
  ASSERT_TRUE(pull("a/b:v1").ok());
  std::string bytes = maker.layers()[1];
  bytes[700] ^= 1;
  write(cat("blobs/sha256/", sha256_of(maker.layers()[1]).substr(7)), bytes);
  const auto error = save({.images = {name("a/b:v1")}}).error();
  EXPECT_EQ(error.code(), Code::kDataLoss);
  EXPECT_THAT(error.message(), HasSubstr(sha256_of(maker.layers()[1])));
}

TEST_F(VerbsTest, WhatWasPushedIsPulledBack) {
  const ImageMaker maker = image_with("one");
  maker.serve(*fake_, "a/b", "v1");
  fake_->accept_uploads({});
  const Image image = pull("a/b:v1").value();
  ASSERT_TRUE(library().tag(image.id, name("c/d:v2")).ok());
  std::vector<LayerProgress> told;
  std::mutex mutex;
  PushOptions options;
  options.progress = [&](const LayerProgress& layer) {
    const std::lock_guard lock(mutex);
    told.push_back(layer);
  };
  const auto pushed = library().push(oci::Reference::parse(name("c/d:v2")).value(), options);
  ASSERT_TRUE(pushed.ok()) << pushed.error().message();
  EXPECT_EQ(pushed->digest, maker.manifest_digest());
  EXPECT_FALSE(pushed->one_platform_of_several);
  std::set<std::string> ended;
  for (const auto& layer : told) {
    if (layer.phase == LayerProgress::Phase::kDone ||
        layer.phase == LayerProgress::Phase::kExists) {
      ended.insert(layer.digest);
    }
  }
  EXPECT_EQ(ended.size(), 3U);  // two layers and the config
  EXPECT_THAT(store_->find(name("c/d:v2"))->value().repo_digests,
              UnorderedElementsAre(name("a/b@" + pushed->digest), name("c/d@" + pushed->digest)));
  ASSERT_TRUE(store_->remove(image.id).ok());
  const auto back = pull("c/d:v2");
  ASSERT_TRUE(back.ok()) << back.error().message();
  EXPECT_EQ(back->id, image.id);
}

TEST_F(VerbsTest, OfSeveralPlatformsOneGoesOutAndThatIsSaidFirst) {
  const ImageMaker maker = image_with("one");
  maker.serve(*fake_, "a/b", "plain");
  oci::Descriptor other = maker.manifest_descriptor();
  other.platform->architecture = "s390x";
  other.digest = oci::Digest::from_sha256_hex(std::string(64, 'd'));
  const std::string type(oci::media_type::kOciIndex);
  const std::string index = oci::to_json(
      oci::Index{.media_type = type, .manifests = {other, maker.manifest_descriptor()}});
  for (const std::string& target : {std::string("multi"), sha256_of(index)})
    fake_->serve("/v2/a/b/manifests/" + target, type, index);
  fake_->accept_uploads({});
  const Image image = pull("a/b:multi").value();
  ASSERT_TRUE(library().tag(image.id, name("c/d:v2")).ok());

  std::vector<OneOfSeveral> told;
  std::atomic<bool> is_late{false};
  PushOptions push;
  push.progress = [&](const LayerProgress&) {
    if (told.empty()) is_late = true;
  };
  push.one_of_several = [&](const OneOfSeveral& one) {
    told.push_back(one);
    if (fake_->count("POST /v2/c/d/blobs/uploads/") != 0) is_late = true;
  };
  const auto pushed = library().push(oci::Reference::parse(name("c/d:v2")).value(), push);
  ASSERT_TRUE(pushed.ok()) << pushed.error().message();
  EXPECT_EQ(pushed->digest, maker.manifest_digest());
  EXPECT_TRUE(pushed->one_platform_of_several);
  SaveOptions save{.images = {image.id}};
  size_t bytes = 0;
  save.one_of_several = [&](const OneOfSeveral& one) {
    told.push_back(one);
    if (bytes != 0) is_late = true;
  };
  ASSERT_TRUE(library()
                  .save(save,
                        [&](std::string_view piece) -> Result<> {
                          bytes += piece.size();
                          return {};
                        })
                  .ok());
  EXPECT_FALSE(is_late);
  ASSERT_EQ(told.size(), 2U);
  EXPECT_EQ(told[0].image, name("c/d:v2"));
  EXPECT_EQ(told[1].image, image.id);
  for (const OneOfSeveral& one : told) {
    EXPECT_EQ(one.index, sha256_of(index));
    EXPECT_EQ(one.manifest, maker.manifest_digest());
    EXPECT_EQ(one.platform, maker.manifest_descriptor().platform->text());
  }
}

TEST_F(VerbsTest, ANameThatNoImageHasIsNotPushed) {
  image_with("one").serve(*fake_, "a/b", "v1");
  const Image image = pull("a/b:v1").value();
  const auto absent = library().push(oci::Reference::parse(name("x/y")).value(), {}).error();
  EXPECT_EQ(absent.code(), Code::kNotFound);
  EXPECT_THAT(absent.message(), HasSubstr("/x/y:latest"));
  const auto digest =
      library().push(oci::Reference::parse(image.repo_digests[0]).value(), {}).error();
  EXPECT_EQ(digest.code(), Code::kInvalidArgument);
}

TEST_F(VerbsTest, UnusedIsWhatNoContainerUses) {
  image_with("one").serve(*fake_, "a/b", "v1");
  const Image old = pull("a/b:v1").value();
  image_with("two").serve(*fake_, "a/b", "v1");
  const Image now = pull("a/b:v1").value();
  image_with("three").serve(*fake_, "a/b", "v3");
  const Image used = pull("a/b:v3").value();
  ASSERT_TRUE(store_->create_root("c1", used.id).ok());
  EXPECT_THAT(store_->find(old.id)->value().repo_tags, IsEmpty());
  const auto nameless = library().list_unused(Unused::kNameless);
  ASSERT_EQ(nameless.size(), 1U);
  EXPECT_EQ(nameless[0].image.id, old.id);
  EXPECT_GT(nameless[0].unique_bytes, 0U);
  EXPECT_EQ(library().list_unused(Unused::kAll).size(), 2U);
  ASSERT_TRUE(store_->remove(old.id).ok());
  const auto all = library().list_unused(Unused::kAll);
  ASSERT_EQ(all.size(), 1U);
  EXPECT_EQ(all[0].image.id, now.id);
}

TEST_F(VerbsTest, AnImageThatWentLeavesNothingInMemory) {
  constexpr size_t kConfigBytes = 4UL << 20U;
  const auto come_and_go = [&](int i) {
    ImageMaker maker = image_with("same");
    maker.config().config.env.push_back(cat("LONG=", i, std::string(kConfigBytes, 'x')));
    const std::string tag = cat("a/b:v", i);
    maker.serve(*fake_, "a/b", cat("v", i));
    const auto image = pull_to_run(tag);
    ASSERT_TRUE(image.ok()) << image.error().message();
    ASSERT_EQ(image->config.config.env.size(), 2U);
    ASSERT_TRUE((i % 2 == 0 ? store_->remove(image->id) : store_->untag(name(tag))).ok());
    ASSERT_TRUE(store_->list()->empty());
    // The registry forgets it, too, with its room: a short text would be copied into that.
    fake_->serve(cat("/v2/a/b/blobs/", maker.image_id()), "text/plain", std::string(100, 'x'));
  };
  const auto in_use = [] {
    const struct mallinfo2 info = ::mallinfo2();  // zeros under a sanitizer
    return info.uordblks + info.hblkhd;
  };
  come_and_go(0);
  const size_t before = in_use();
  for (int i = 1; i <= 8; ++i) come_and_go(i);
  EXPECT_LT(in_use(), before + 4 * kConfigBytes);
}

TEST_F(VerbsTest, AnImportIsWatchedAndEnded) {
  image_with("one").serve(*fake_, "a/b", "v1");
  ASSERT_TRUE(pull("a/b:v1").ok());
  const std::string file = save({.images = {name("a/b:v1")}}).value();
  ASSERT_TRUE(store_->remove(name("a/b:v1")).ok());
  std::mutex mutex;
  std::set<std::string> seen;
  {
    const auto watch = library().watch_import(file, {.progress = [&](const LayerProgress& layer) {
                                                const std::lock_guard lock(mutex);
                                                seen.insert(layer.digest);
                                              }});
    ASSERT_TRUE(store_->import(file, {}).ok());
  }
  EXPECT_EQ(seen.size(), 2U);
  ASSERT_TRUE(store_->remove(name("a/b:v1")).ok());
  const std::atomic<bool> cancelled{true};
  {
    const auto watch = library().watch_import(file, {.cancelled = &cancelled});
    EXPECT_EQ(store_->import(file, {}).error().code(), Code::kCancelled);
  }
  EXPECT_TRUE(store_->import(file, {}).ok());  // nobody watches any more
}

}  // namespace
}  // namespace fluyt::image
