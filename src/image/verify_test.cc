#include <utime.h>

#include "image/layer/store.h"
#include "image/store_fixture.h"

namespace fluyt::image {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using testing::ImageMaker;
using ::testing::IsEmpty;
using testing::sha256_of;
using Outcome = Damage::Outcome;

class VerifyTest : public testing::StoreFixture {
 protected:
  VerifyReport verify(bool repair = false) {
    auto report = library().verify({.repair = repair});
    EXPECT_TRUE(report.ok()) << report.error().message();
    return report.ok() ? *report : VerifyReport{};
  }
  std::string in_layer(const ImageMaker& maker, size_t layer, const std::string& file) const {
    return cat("layers/", sha256_of(maker.layers()[layer]).substr(7), "/fs/", file);
  }
  // As layers were unpacked before there were any.
  void forget_manifests() const {
    for (const std::string& layer : names_in("layers")) {
      const std::string record = cat("layers/", layer, "/layer.json");
      LayerInfo info = parse_layer_info(sys::read_file(path(record), 1U << 20U).value()).value();
      info.metadata_digest.clear();
      write(record, to_json(info));
      ASSERT_TRUE(sys::remove_file(sys::kCwd, path(cat("layers/", layer, "/manifest"))).ok());
    }
  }
  // A byte changed in place, the time put back: what no look at sizes and times finds.
  void flip(const std::string& file) const {
    struct stat before{};
    ASSERT_EQ(::stat(path(file).c_str(), &before), 0);
    {
      const sys::Fd fd = sys::open(path(file), O_RDWR).value();
      ASSERT_EQ(::pwrite(fd.raw(), "#", 1, 1), 1);
    }
    const struct timespec times[] = {before.st_atim, before.st_mtim};
    ASSERT_EQ(::utimensat(AT_FDCWD, path(file).c_str(), times, 0), 0);
  }
};

TEST_F(VerifyTest, WhatIsWholeIsSaidToBe) {
  image_with("one").serve(*fake_, "a/b", "v1");
  image_with("two").serve(*fake_, "a/b", "v2");
  ASSERT_TRUE(pull("a/b:v1").ok());
  ASSERT_TRUE(pull_to_run("a/b:v2").ok());
  const VerifyReport report = verify();
  EXPECT_EQ(report.images, 2U);
  EXPECT_EQ(report.blobs, 6U);  // two documents each, two layers' blobs
  EXPECT_EQ(report.layers_compared, 3U);
  EXPECT_EQ(report.layers_counted, 0U);
  EXPECT_THAT(report.damages, IsEmpty());
  EXPECT_THAT(names_in("staging"), IsEmpty());
  EXPECT_EQ(library().verify({.images = {"nothing"}}).error().code(), Code::kNotFound);
}

TEST_F(VerifyTest, SilentDamageOfALayerIsFoundAndMended) {
  const ImageMaker maker = image_with("one");
  maker.serve(*fake_, "a/b", "v1");
  const Image image = pull("a/b:v1").value();
  flip(in_layer(maker, 1, "etc/hostname"));
  EXPECT_EQ(store_->read_image_file(image.id, "/etc/hostname", 99).value(), "o#e");
  VerifyReport report = verify();
  ASSERT_EQ(report.damages.size(), 1U);
  EXPECT_EQ(report.damages[0].digest, sha256_of(maker.layers()[1]));
  EXPECT_THAT(report.damages[0].finding, HasSubstr("\"/etc/hostname\" has other content"));
  EXPECT_THAT(report.damages[0].images, ElementsAre(image.id));
  EXPECT_EQ(report.damages[0].outcome, Outcome::kFound);
  report = verify(true);
  ASSERT_EQ(report.damages.size(), 1U);
  EXPECT_EQ(report.damages[0].outcome, Outcome::kRepaired) << report.damages[0].note;
  EXPECT_EQ(report.damages[0].note, "unpacked again from its blob");
  EXPECT_EQ(store_->read_image_file(image.id, "/etc/hostname", 99).value(), "one");
  EXPECT_THAT(verify().damages, IsEmpty());
  reopen();
  EXPECT_EQ(store_->list()->size(), 1U);
}

TEST_F(VerifyTest, ALayersLinksFromAboveAreMendedWithIt) {
  ImageMaker maker;
  maker.add_layer({{"f", "content"}});
  maker.add_layer({{"g", "", "", "f"}});
  maker.serve(*fake_, "a/b", "v1");
  const Image image = pull("a/b:v1").value();
  flip(in_layer(maker, 0, "f"));
  EXPECT_EQ(store_->read_image_file(image.id, "/g", 99).value(), "c#ntent") << "the same file";
  const VerifyReport report = verify(true);
  ASSERT_EQ(report.damages.size(), 1U);
  EXPECT_EQ(report.damages[0].outcome, Outcome::kRepaired) << report.damages[0].note;
  EXPECT_EQ(store_->read_image_file(image.id, "/f", 99).value(), "content");
  EXPECT_EQ(store_->read_image_file(image.id, "/g", 99).value(), "content");
}

TEST_F(VerifyTest, ALayerInAnImageIsReadWhole) {
  options_.layer_form = LayerForm::kErofs;
  if (const auto opened = try_reopen(); !opened.ok()) GTEST_SKIP() << opened.error().message();
  const ImageMaker maker = image_with("one");
  maker.serve(*fake_, "a/b", "v1");
  const Image image = pull_to_run("a/b:v1").value();
  EXPECT_THAT(verify().damages, IsEmpty());
  const std::string file = cat("layers/", sha256_of(maker.layers()[1]).substr(7), "/", kImageName);
  flip(file);
  VerifyReport report = verify();
  ASSERT_EQ(report.damages.size(), 1U);
  EXPECT_EQ(report.damages[0].digest, sha256_of(maker.layers()[1]));
  EXPECT_THAT(report.damages[0].finding, HasSubstr("metadata"));
  report = verify(true);
  ASSERT_EQ(report.damages.size(), 1U);
  EXPECT_EQ(report.damages[0].note, "fetched and unpacked again");
  EXPECT_THAT(verify().damages, IsEmpty());
  // With its blob at hand no registry is asked.
  ASSERT_TRUE(pull("a/b:v1").ok());
  flip(file);
  report = verify(true);
  ASSERT_EQ(report.damages.size(), 1U);
  EXPECT_EQ(report.damages[0].note, "unpacked again from its blob");
  EXPECT_EQ(store_->read_image_file(image.id, "/etc/hostname", 99).value(), "one");
  EXPECT_THAT(verify().damages, IsEmpty());
}

TEST_F(VerifyTest, ModesTimesAndStraysAreFound) {
  const ImageMaker maker = image_with("one");
  maker.serve(*fake_, "a/b", "v1");
  ASSERT_TRUE(pull("a/b:v1").ok());
  ASSERT_EQ(::chmod(path(in_layer(maker, 0, "etc/passwd")).c_str(), 0777), 0);
  write(in_layer(maker, 1, "stray"), "x");
  const struct utimbuf times = {1, 1};
  ASSERT_EQ(::utime(path(in_layer(maker, 1, "etc/hostname")).c_str(), &times), 0);
  const VerifyReport report = verify();
  ASSERT_EQ(report.damages.size(), 2U);
  std::string all;
  for (const Damage& damage : report.damages) all += damage.finding + "\n";
  EXPECT_THAT(all, HasSubstr("\"/etc/passwd\" has another mode"));
  EXPECT_THAT(all, HasSubstr("\"/stray\" does not belong there"));
  EXPECT_THAT(all, HasSubstr("\"/etc/hostname\" has another time"));
}

TEST_F(VerifyTest, WithoutItsBlobALayerIsFetchedAgain) {
  const ImageMaker maker = image_with("one");
  maker.serve(*fake_, "a/b", "v1");
  const Image image = pull_to_run("a/b:v1").value();
  ASSERT_TRUE(sys::remove_file(sys::kCwd, path(in_layer(maker, 1, "etc/hostname"))).ok());
  VerifyReport report = verify();
  ASSERT_EQ(report.damages.size(), 1U);
  EXPECT_EQ(report.damages[0].finding, "\"/etc/hostname\" is missing");
  report = verify(true);
  ASSERT_EQ(report.damages.size(), 1U);
  EXPECT_EQ(report.damages[0].note, "fetched and unpacked again");
  EXPECT_EQ(report.damages[0].outcome, Outcome::kRepaired);
  EXPECT_EQ(store_->read_image_file(image.id, "/etc/hostname", 99).value(), "one");
  EXPECT_THAT(verify().damages, IsEmpty());
}

TEST_F(VerifyTest, ALayerUnderAContainerIsNamedAndLeft) {
  const ImageMaker maker = image_with("one");
  maker.serve(*fake_, "a/b", "v1");
  const Image image = pull("a/b:v1").value();
  ASSERT_TRUE(store_->create_root("c1", image.id).ok());
  flip(in_layer(maker, 1, "etc/hostname"));
  VerifyReport report = verify(true);
  ASSERT_EQ(report.damages.size(), 1U);
  EXPECT_THAT(report.damages[0].containers, ElementsAre("c1"));
  EXPECT_EQ(report.damages[0].outcome, Outcome::kNotRepaired);
  EXPECT_THAT(report.damages[0].note, HasSubstr("containers stand on it"));
  ASSERT_TRUE(store_->remove_root("c1").ok());
  report = verify(true);
  ASSERT_EQ(report.damages.size(), 1U);
  EXPECT_EQ(report.damages[0].outcome, Outcome::kRepaired);
}

TEST_F(VerifyTest, DamagedBlobsAreFetchedAgain) {
  const ImageMaker maker = image_with("one");
  maker.serve(*fake_, "a/b", "v1");
  const Image image = pull("a/b:v1").value();
  const std::string layer = sha256_of(maker.layers()[0]);
  const auto file_of = [](const std::string& digest) { return "blobs/sha256/" + digest.substr(7); };
  flip(file_of(layer));
  flip(file_of(maker.manifest_digest()));
  flip(file_of(image.id));
  VerifyReport report = verify();
  EXPECT_EQ(report.damages.size(), 3U);
  EXPECT_EQ(report.layers_compared, 2U);  // one with its checksums
  report = verify(true);
  ASSERT_EQ(report.damages.size(), 3U);
  for (const Damage& damage : report.damages) {
    EXPECT_EQ(damage.kind, Damage::Kind::kBlob);
    EXPECT_EQ(damage.note, "fetched again") << damage.digest;
  }
  EXPECT_THAT(verify().damages, IsEmpty());
}

TEST_F(VerifyTest, WhereNothingCanBeFetchedTheReasonIsTold) {
  const ImageMaker maker = image_with("one");
  maker.serve(*fake_, "a/b", "v1");
  const Image image = pull_to_run("a/b:v1").value();
  ASSERT_TRUE(sys::remove_file(sys::kCwd, path(in_layer(maker, 1, "etc/hostname"))).ok());
  fake_->set_hook([](const testing::FakeRegistry::Request&) {
    testing::FakeRegistry::Reply reply;
    reply.status = 404;
    return std::optional(reply);
  });
  const VerifyReport report = verify(true);
  ASSERT_EQ(report.damages.size(), 1U);
  EXPECT_EQ(report.damages[0].outcome, Outcome::kNotRepaired);
  EXPECT_THAT(report.damages[0].note, HasSubstr(fake_->host()));
  EXPECT_EQ(store_->list()->size(), 1U);
}

TEST_F(VerifyTest, ALayerThatAFixUpLinksToIsWhole) {
  ImageMaker maker = image_with("one");
  maker.add_layer({{"etc/", ""}, {"etc/link", "", "", "etc/passwd"}});
  maker.serve(*fake_, "a/b", "v1");
  const Image image = pull("a/b:v1").value();
  struct stat info{};
  ASSERT_EQ(::stat(path(in_layer(maker, 0, "etc/passwd")).c_str(), &info), 0);
  ASSERT_GE(info.st_nlink, 2U);
  EXPECT_THAT(verify().damages, IsEmpty());
}

TEST_F(VerifyTest, ALayerOfWhichSomethingGaveWayIsWhole) {
  ImageMaker maker = image_with("one");
  maker.add_layer({{"f", std::string(100'000, 'x')},
                   {"f", "short"},
                   {"d/", ""},
                   {"d/in", "x"},
                   {"d/in2", "x"},
                   {"d", "a file"}});
  maker.serve(*fake_, "a/b", "v1");
  ASSERT_TRUE(pull_to_run("a/b:v1").ok());
  VerifyReport report = verify();
  EXPECT_EQ(report.layers_compared, 3U);
  EXPECT_THAT(report.damages, IsEmpty());
  forget_manifests();
  report = verify();
  EXPECT_EQ(report.layers_counted, 3U);
  EXPECT_THAT(report.damages, IsEmpty());
}

TEST_F(VerifyTest, WithoutItsBlobAChangedByteIsFoundAndMended) {
  const ImageMaker maker = image_with("one");
  maker.serve(*fake_, "a/b", "v1");
  const Image image = pull_to_run("a/b:v1").value();
  flip(in_layer(maker, 1, "etc/hostname"));
  VerifyReport report = verify();
  ASSERT_EQ(report.damages.size(), 1U);
  EXPECT_EQ(report.damages[0].finding, "\"/etc/hostname\" has other content");
  report = verify(true);
  ASSERT_EQ(report.damages.size(), 1U);
  EXPECT_EQ(report.damages[0].note, "fetched and unpacked again");
  EXPECT_EQ(store_->read_image_file(image.id, "/etc/hostname", 99).value(), "one");
  report = verify();
  EXPECT_EQ(report.layers_compared, 2U);
  EXPECT_THAT(report.damages, IsEmpty());
}

// What a power cut does to files whose names it keeps, where each is smaller than a block.
TEST_F(VerifyTest, WithoutItsBlobEmptiedSmallFilesAreFound) {
  ImageMaker maker;
  std::vector<testing::TarFile> files;
  for (int i = 0; i < 40; ++i) files.push_back({cat("f", i), std::string(100, 'x')});
  maker.add_layer(files);
  maker.serve(*fake_, "a/b", "v1");
  ASSERT_TRUE(pull_to_run("a/b:v1").ok());
  for (int i = 0; i < 40; ++i) {
    ASSERT_EQ(::truncate(path(in_layer(maker, 0, cat("f", i))).c_str(), 0), 0);
  }
  VerifyReport report = verify(true);
  ASSERT_EQ(report.damages.size(), 1U);
  EXPECT_THAT(report.damages[0].finding, HasSubstr("\"/f0\" has 0 bytes, expected 100"));
  EXPECT_EQ(report.damages[0].outcome, Outcome::kRepaired) << report.damages[0].note;
  EXPECT_THAT(verify().damages, IsEmpty());
}

TEST_F(VerifyTest, WithoutItsBlobStraysModesAndLinksAreFound) {
  ImageMaker maker;
  maker.add_layer({{"d/", ""}, {"d/f", "content"}, {"d/g", "", "", "d/f"}, {"l", "", "d/f"}});
  maker.serve(*fake_, "a/b", "v1");
  ASSERT_TRUE(pull_to_run("a/b:v1").ok());
  EXPECT_THAT(verify().damages, IsEmpty());
  ASSERT_EQ(::chmod(path(in_layer(maker, 0, "d")).c_str(), 0777), 0);
  write(in_layer(maker, 0, "d/stray"), "x");
  ASSERT_EQ(::unlink(path(in_layer(maker, 0, "d/g")).c_str()), 0);
  write(in_layer(maker, 0, "d/g"), "content");
  ASSERT_EQ(::unlink(path(in_layer(maker, 0, "l")).c_str()), 0);
  ASSERT_EQ(::symlink("d/F", path(in_layer(maker, 0, "l")).c_str()), 0);
  const VerifyReport report = verify();
  ASSERT_EQ(report.damages.size(), 1U);
  EXPECT_EQ(report.damages[0].finding,
            "\"/d/g\" is not \"/d/f\"; \"/l\" leads elsewhere; \"/d\" has another mode; "
            "\"/d/stray\" does not belong there");
}

// Whatever it is held against.
TEST_F(VerifyTest, ItCanBeEndedWithinALayer) {
  const ImageMaker maker = image_with("one");
  maker.serve(*fake_, "a/b", "v1");
  for (const bool with_blob : {false, true}) {
    ASSERT_TRUE((with_blob ? pull("a/b:v1") : pull_to_run("a/b:v1")).ok());
    std::string last;
    const auto note = [&](const LayerProgress& layer) { last = layer.digest; };
    ASSERT_TRUE(library().verify({.progress = note}).ok());
    std::atomic<bool> cancelled{false};
    const auto end = [&](const LayerProgress& layer) {
      if (layer.digest == last && layer.phase == LayerProgress::Phase::kFetching) cancelled = true;
    };
    const auto report = library().verify({.progress = end, .cancelled = &cancelled});
    ASSERT_FALSE(report.ok()) << with_blob;
    EXPECT_EQ(report.error().code(), Code::kCancelled) << report.error().message();
  }
}

TEST_F(VerifyTest, ItCanBeEndedWithinABlob) {
  image_with("one").serve(*fake_, "a/b", "v1");
  ASSERT_TRUE(pull("a/b:v1").ok());
  std::atomic<bool> cancelled{false};
  std::vector<std::string> begun;
  const auto end = [&](const LayerProgress& blob) {
    begun.push_back(blob.digest);
    cancelled = true;
  };
  const auto report = library().verify({.progress = end, .cancelled = &cancelled});
  ASSERT_FALSE(report.ok());
  EXPECT_EQ(report.error().code(), Code::kCancelled) << report.error().message();
  EXPECT_EQ(begun.size(), 1U) << "it is not said to be done";
}

TEST_F(VerifyTest, ADamagedManifestIsDamageOfItsLayer) {
  const ImageMaker maker = image_with("one");
  maker.serve(*fake_, "a/b", "v1");
  const std::string manifest = cat("layers/", sha256_of(maker.layers()[1]).substr(7), "/manifest");
  for (const bool with_blob : {false, true}) {
    ASSERT_TRUE((with_blob ? pull("a/b:v1") : pull_to_run("a/b:v1")).ok());
    flip(manifest);
    VerifyReport report = verify(true);
    ASSERT_EQ(report.damages.size(), 1U);
    EXPECT_THAT(report.damages[0].finding, HasSubstr("the manifest of its files is damaged"));
    EXPECT_EQ(report.damages[0].outcome, Outcome::kRepaired) << report.damages[0].note;
    ASSERT_TRUE(sys::remove_file(sys::kCwd, path(manifest)).ok());
    report = verify(true);
    ASSERT_EQ(report.damages.size(), 1U);
    EXPECT_THAT(report.damages[0].finding, HasSubstr("manifest\""));
    EXPECT_THAT(verify().damages, IsEmpty());
  }
}

// As an earlier version left it.
TEST_F(VerifyTest, WithoutAManifestALayersFilesAreCounted) {
  const ImageMaker maker = image_with("one");
  maker.serve(*fake_, "a/b", "v1");
  const Image image = pull_to_run("a/b:v1").value();
  forget_manifests();
  VerifyReport report = verify();
  EXPECT_EQ(report.layers_counted, 2U);
  EXPECT_THAT(report.damages, IsEmpty());
  ASSERT_TRUE(sys::remove_file(sys::kCwd, path(in_layer(maker, 1, "etc/hostname"))).ok());
  report = verify(true);
  ASSERT_EQ(report.damages.size(), 1U);
  EXPECT_THAT(report.damages[0].finding, HasSubstr("files and folders, expected"));
  EXPECT_EQ(report.damages[0].outcome, Outcome::kRepaired);
  EXPECT_EQ(store_->read_image_file(image.id, "/etc/hostname", 99).value(), "one");
  EXPECT_EQ(verify().layers_compared, 1U) << "the one that was mended has one";
}

// An image says of somebody else's layer, which is here, that it comes from another blob.
TEST_F(VerifyTest, ABlobThatIsNotItsLayersEndsNothing) {
  ImageMaker maker = image_with("one");
  maker.serve(*fake_, "a/b", "v1");
  const Image good = pull("a/b:v1").value();
  ImageMaker liar = image_with("two");
  liar.add_layer({{"other", "x"}});
  liar.config().diff_ids[0] = maker.config().diff_ids[1];  // by the blob of another layer of both
  liar.config().diff_ids[2] = maker.config().diff_ids[1];
  liar.serve(*fake_, "a/b", "liar");
  const Image bad = pull("a/b:liar").value();
  flip(in_layer(maker, 1, "etc/hostname"));
  for (const bool repair : {false, true}) {
    const VerifyReport report = verify(repair);
    size_t layers = 0;
    for (const Damage& damage : report.damages) {
      if (damage.kind == Damage::Kind::kLayer) {
        ++layers;
        EXPECT_EQ(damage.digest, maker.config().diff_ids[1].text());
        EXPECT_EQ(damage.outcome, repair ? Outcome::kRepaired : Outcome::kFound) << damage.note;
        continue;
      }
      EXPECT_THAT(damage.finding, HasSubstr("does not unpack to the layer"));
      EXPECT_THAT(damage.images, ElementsAre(bad.id));
      EXPECT_EQ(damage.outcome, repair ? Outcome::kNotRepaired : Outcome::kFound);
    }
    EXPECT_EQ(layers, 1U);
  }
  ASSERT_TRUE(store_->remove(good.id).ok());
  const VerifyReport report = verify();
  EXPECT_EQ(report.layers_compared, 2U);
  ASSERT_EQ(report.damages.size(), 2U);
  EXPECT_EQ(report.damages[0].kind, Damage::Kind::kBlob);
  ASSERT_TRUE(store_->remove(bad.id).ok());
  EXPECT_THAT(verify().damages, IsEmpty());
}

// The catalogue in every bad state that a disk may leave it in: no image is lost, no root either.
TEST_F(VerifyTest, ALostCatalogueIsMadeAgainWithImagesNamesBlobsAndRoots) {
  const ImageMaker maker = image_with("one");
  maker.serve(*fake_, "a/b", "v1");
  image_with("two").serve(*fake_, "a/b", "v2");
  const Image image = pull("a/b:v1").value();
  const Image two = pull_to_run("a/b:v2").value();
  ASSERT_TRUE(library().tag(image.id, "mine:1").ok());
  ASSERT_TRUE(store_->create_root("c1", two.id).ok());
  const auto before = store_->find(image.id)->value();
  const uint64_t used = store_->fs_usage()->used_bytes;
  store_.reset();
  const std::string good = sys::read_file(path("catalog.db"), 1U << 24U).value();
  for (const std::string& bytes :
       {std::string(), std::string(good.size(), '\0'), good.substr(0, 5000), std::string("junk"),
        good.substr(0, 4096) + std::string(good.size() - 4096, 'x')}) {
    write("catalog.db", bytes);
    if (bytes.empty()) {
      ASSERT_TRUE(sys::remove_file(sys::kCwd, path("catalog.db")).ok());
    }
    reopen();
    const auto after = store_->find("mine:1").value();
    ASSERT_TRUE(after.has_value());
    EXPECT_EQ(after->id, image.id);
    EXPECT_EQ(after->repo_tags, before.repo_tags);
    EXPECT_EQ(after->repo_digests, before.repo_digests);
    EXPECT_EQ(store_->list()->size(), 2U);
    EXPECT_THAT(store_->list_roots().value(), ElementsAre("c1"));
    EXPECT_EQ(store_->fs_usage()->used_bytes, used);
    EXPECT_TRUE(library().describe("mine:1")->value().pushable);
    EXPECT_EQ(store_->read_image_file(image.id, "/etc/hostname", 99).value(), "one");
    store_.reset();
  }
}

}  // namespace
}  // namespace fluyt::image
