#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <csignal>
#include <thread>
#include <utility>

#include "base/strings.h"
#include "base/time.h"
#include "image/blob/hasher.h"
#include "image/image_store.h"
#include "image/testing/fake_registry.h"
#include "image/testing/image_maker.h"
#include "image/testing/settled.h"
#include "sys/file.h"

namespace fluyt::image {
namespace {

using ::testing::AllOf;
using ::testing::ElementsAre;
using testing::FakeRegistry;
using ::testing::HasSubstr;
using testing::ImageMaker;
using ::testing::IsEmpty;
using testing::make_tar;
using testing::sha256_of;
using testing::TarFile;
using Reply = FakeRegistry::Reply;

// fluyt-unpack stands beside the tests' folder: build/<preset>/test/x and build/<preset>/bin/x.
std::string unpack_program() {
  const std::string self = sys::read_link(sys::kCwd, "/proc/self/exe").value();
  const std::string folder = self.substr(0, self.rfind('/'));
  return folder.substr(0, folder.rfind('/')) + "/bin/fluyt-unpack";
}

class StoreTest : public ::testing::Test {
 protected:
  void SetUp() override {
    signal(SIGPIPE, SIG_IGN);
    folder_ = std::make_unique<sys::TempDir>(sys::TempDir::create().value());
    fake_ = FakeRegistry::start().value();
    reopen();
  }

  void reopen() {
    store_.reset();
    StoreOptions options;
    options.root = folder_->path() + "/store";
    options.certs_dir = folder_->path() + "/certs";
    options.unpack_program = unpack_program();
    options.timeouts = {.connect_ms = 1000, .first_byte_ms = 300, .stall_ms = 300};
    options.retry.first_delay_ms = 10;
    options.retry.max_tries = 2;
    options.keep_blobs = keep_blobs_;
    auto opened = ImageStore::open(options, logger_);
    ASSERT_TRUE(opened.ok()) << opened.error().message();
    store_ = std::move(*opened);
  }

  std::string name(const std::string& tag) const { return cat(fake_->host(), "/", tag); }
  Result<Image> pull(const std::string& tag, const PullOptions& options = {}) {
    return store_->pull(oci::Reference::parse(name(tag)).value(), options);
  }
  std::vector<std::string> names_in(const std::string& folder) const {
    return testing::settled_names(cat(folder_->path(), "/store/", folder));
  }
  // Neither a row nor a file.
  void expect_nothing_left() {
    EXPECT_TRUE(store_->list()->empty());
    for (const char* folder : {"layers", "staging", "trash", "fixups", "blobs/sha256", "roots"}) {
      EXPECT_THAT(names_in(folder), IsEmpty()) << folder;
    }
    EXPECT_EQ(store_->fs_usage()->used_bytes, 0U);
  }
  // One clear error, and nothing left.
  void expect_refused(Result<Image> got, Code code, const std::string& words) {
    ASSERT_FALSE(got.ok());
    EXPECT_EQ(got.error().code(), code) << got.error().message();
    EXPECT_THAT(got.error().message(), HasSubstr(words));
    expect_nothing_left();
  }

  // Which of the image's layers are there as they came.
  std::vector<bool> kept(const ImageMaker& maker) const {
    const auto blobs = names_in("blobs/sha256");
    std::vector<bool> out;
    for (const std::string& layer : maker.layers()) {
      out.push_back(std::count(blobs.begin(), blobs.end(), sha256_of(layer).substr(7)) == 1);
    }
    return out;
  }

  KeepBlobs keep_blobs_ = KeepBlobs::kPushable;
  NullLogger logger_;
  std::unique_ptr<sys::TempDir> folder_;
  std::unique_ptr<FakeRegistry> fake_;
  std::unique_ptr<ImageStore> store_;
};

ImageMaker two_layers(const std::string& top = "box\n") {
  ImageMaker maker;
  maker.add_layer({{"etc/", ""}, {"etc/passwd", "root:x:0:0::/:/bin/sh\n"}});
  maker.add_layer({{"etc/", ""}, {"etc/hostname", top}});
  maker.config().config.env = {"PATH=/bin"};
  return maker;
}

TEST_F(StoreTest, PullsListsReadsAndRemoves) {
  const ImageMaker maker = two_layers();
  maker.serve(*fake_, "a/b", "v1");
  auto image = pull("a/b:v1");
  ASSERT_TRUE(image.ok()) << image.error().message();
  EXPECT_EQ(image->id, maker.image_id());
  EXPECT_THAT(image->repo_tags, ElementsAre(name("a/b:v1")));
  EXPECT_THAT(image->repo_digests, ElementsAre(cat(name("a/b@"), maker.manifest_digest())));
  EXPECT_THAT(image->config.config.env, ElementsAre("PATH=/bin"));
  EXPECT_GT(image->size, 3000U);
  EXPECT_EQ(store_->list()->size(), 1U);
  auto passwd = store_->read_image_file(image->id, "/etc/passwd", 4096);
  ASSERT_TRUE(passwd.ok()) << passwd.error().message();
  EXPECT_EQ(passwd->value_or(""), "root:x:0:0::/:/bin/sh\n");
  EXPECT_EQ(store_->read_image_file(image->id, "/nope", 4096).value(), std::nullopt);
  for (const std::string& key : {image->id, image->id.substr(7), image->id.substr(7, 12),
                                 name("a/b:v1"), image->repo_digests[0]}) {
    EXPECT_TRUE(store_->find(key)->has_value()) << key;
  }
  EXPECT_FALSE(store_->find(name("a/b:v2"))->has_value());
  auto removed = store_->remove(name("a/b:v1"));
  ASSERT_TRUE(removed.ok()) << removed.error().message();
  expect_nothing_left();
  EXPECT_TRUE(store_->remove(name("a/b:v1")).ok());
}

PullOptions to_push() { return {.purpose = PullOptions::Purpose::kRunAndPush}; }

TEST_F(StoreTest, BlobsAreKeptForPushingAlone) {
  const ImageMaker maker = two_layers();
  maker.serve(*fake_, "a/b", "v1");
  ASSERT_TRUE(pull("a/b:v1").ok());
  EXPECT_THAT(kept(maker), ElementsAre(false, false));
  const uint64_t before = store_->fs_usage()->used_bytes;
  // The same image again, by somebody who may push it: just the blobs come.
  std::vector<LayerProgress> told;
  PullOptions options = to_push();
  options.progress = [&](const LayerProgress& layer) { told.push_back(layer); };
  auto again = pull("a/b:v1", options);
  ASSERT_TRUE(again.ok()) << again.error().message();
  EXPECT_THAT(kept(maker), ElementsAre(true, true));
  uint64_t blob_bytes = 0;
  for (const std::string& layer : maker.layers()) blob_bytes += (layer.size() + 4095) / 4096 * 4096;
  EXPECT_EQ(store_->fs_usage()->used_bytes, before + blob_bytes);
  EXPECT_EQ(told.back().phase, LayerProgress::Phase::kDone);
  const size_t requests = fake_->count("GET ");
  ASSERT_TRUE(pull("a/b:v1", to_push()).ok());
  ASSERT_TRUE(pull("a/b:v1").ok());
  EXPECT_EQ(fake_->count("GET "), requests);
  reopen();
  EXPECT_THAT(kept(maker), ElementsAre(true, true));
  EXPECT_EQ(store_->fs_usage()->used_bytes, before + blob_bytes);
  ASSERT_TRUE(store_->remove(name("a/b:v1")).ok());
  expect_nothing_left();
}

TEST_F(StoreTest, ASharedBlobStaysWithTheOtherImage) {
  const ImageMaker one = two_layers("one\n");
  const ImageMaker two = two_layers("two\n");
  one.serve(*fake_, "a/b", "v1");
  two.serve(*fake_, "a/b", "v2");
  ASSERT_TRUE(pull("a/b:v1", to_push()).ok());
  ASSERT_TRUE(pull("a/b:v2", to_push()).ok());
  EXPECT_EQ(fake_->count("GET /v2/a/b/blobs/" + sha256_of(one.layers()[0])), 1U);
  ASSERT_TRUE(store_->remove(name("a/b:v1")).ok());
  EXPECT_THAT(kept(one), ElementsAre(true, false));
  EXPECT_THAT(kept(two), ElementsAre(true, true));
}

TEST_F(StoreTest, WhichBlobsAreKeptIsAChoice) {
  const ImageMaker maker = two_layers();
  maker.serve(*fake_, "a/b", "v1");
  keep_blobs_ = KeepBlobs::kNever;
  reopen();
  ASSERT_TRUE(pull("a/b:v1", to_push()).ok());
  EXPECT_THAT(kept(maker), ElementsAre(false, false));
  keep_blobs_ = KeepBlobs::kAlways;
  reopen();
  ASSERT_TRUE(pull("a/b:v1").ok());
  EXPECT_THAT(kept(maker), ElementsAre(true, true));
}

TEST_F(StoreTest, ABlobThatWasCutShortIsFetchedAgain) {
  const ImageMaker maker = two_layers();
  maker.serve(*fake_, "a/b", "v1");
  ASSERT_TRUE(pull("a/b:v1", to_push()).ok());
  store_.reset();
  const std::string path =
      cat(folder_->path(), "/store/blobs/sha256/", sha256_of(maker.layers()[0]).substr(7));
  ASSERT_TRUE(sys::write_file_atomic(sys::kCwd, path, "cut", 0600).ok());
  reopen();
  EXPECT_THAT(kept(maker), ElementsAre(false, true));
  EXPECT_EQ(store_->list()->size(), 1U);  // its trees are whole
  ASSERT_TRUE(pull("a/b:v1", to_push()).ok());
  EXPECT_THAT(kept(maker), ElementsAre(true, true));
}

TEST_F(StoreTest, WrongBytesAreNotKept) {
  const ImageMaker maker = two_layers();
  maker.serve(*fake_, "a/b", "v1");
  ASSERT_TRUE(pull("a/b:v1").ok());
  std::string wrong = maker.layers()[1];
  wrong[600] ^= 1;
  fake_->serve("/v2/a/b/blobs/" + sha256_of(maker.layers()[1]), "application/octet-stream", wrong);
  auto got = pull("a/b:v1", to_push());
  ASSERT_FALSE(got.ok());
  EXPECT_EQ(got.error().code(), Code::kDataLoss);
  EXPECT_THAT(got.error().message(), HasSubstr(sha256_of(maker.layers()[1])));
  EXPECT_FALSE(kept(maker)[1]);
  EXPECT_EQ(store_->list()->size(), 1U);  // what was there stays
}

TEST_F(StoreTest, SurvivesReopening) {
  two_layers().serve(*fake_, "a/b", "v1");
  const Image before = pull("a/b:v1").value();
  ASSERT_TRUE(store_->create_root("c1", before.id).ok());
  reopen();
  const auto images = store_->list().value();
  ASSERT_EQ(images.size(), 1U);
  EXPECT_EQ(images[0].id, before.id);
  EXPECT_EQ(images[0].repo_tags, before.repo_tags);
  EXPECT_THAT(images[0].config.config.env, ElementsAre("PATH=/bin"));
  EXPECT_THAT(store_->list_roots().value(), ElementsAre("c1"));
}

TEST_F(StoreTest, AStoreIsOfOneProcessAtATime) {
  auto second = ImageStore::open(
      {.root = folder_->path() + "/store", .unpack_program = unpack_program()}, logger_);
  ASSERT_FALSE(second.ok());
  EXPECT_EQ(second.error().code(), Code::kFailedPrecondition);
}

TEST_F(StoreTest, WhatADeadProcessLeftIsSwept) {
  two_layers().serve(*fake_, "a/b", "v1");
  const Image image = pull("a/b:v1").value();
  ASSERT_TRUE(store_->create_root("c1", image.id).ok());
  store_.reset();
  const std::string root = folder_->path() + "/store/";
  ASSERT_TRUE(sys::make_dirs(root + "staging/half/fs", 0700).ok());
  ASSERT_TRUE(sys::make_dirs(root + "roots/nobody/upper", 0700).ok());
  ASSERT_TRUE(sys::make_dirs(root + "layers/" + std::string(64, 'a') + "/fs", 0700).ok());
  ASSERT_TRUE(sys::remove_tree(root + "roots/c1").ok());
  reopen();
  EXPECT_THAT(names_in("staging"), IsEmpty());
  EXPECT_THAT(names_in("roots"), IsEmpty());
  EXPECT_EQ(names_in("layers").size(), 2U);
  EXPECT_THAT(store_->list_roots().value(), IsEmpty());
  EXPECT_EQ(store_->list()->size(), 1U);
}

TEST_F(StoreTest, AnImageWhoseLayerIsGoneIsDiscarded) {
  const ImageMaker maker = two_layers();
  maker.serve(*fake_, "a/b", "v1");
  ASSERT_TRUE(pull("a/b:v1").ok());
  store_.reset();
  const std::string hex = sha256_of(maker.layers()[0]).substr(7);
  ASSERT_TRUE(sys::remove_tree(folder_->path() + "/store/layers/" + hex).ok());
  reopen();
  expect_nothing_left();
  EXPECT_TRUE(pull("a/b:v1").ok());  // and comes again
}

TEST_F(StoreTest, ARootKeepsItsLayersWhenTheImageGoes) {
  two_layers().serve(*fake_, "a/b", "v1");
  const Image image = pull("a/b:v1").value();
  auto mount = store_->create_root("c1", image.id);
  ASSERT_TRUE(mount.ok()) << mount.error().message();
  EXPECT_EQ(mount->lower_dirs.size(), 2U);
  EXPECT_EQ(store_->create_root("c1", image.id).value(), *mount);  // the same again
  ASSERT_TRUE(store_->remove(image.id).ok());
  EXPECT_TRUE(store_->list()->empty());
  EXPECT_EQ(names_in("layers").size(), 2U);
  EXPECT_EQ(store_->create_root("c2", image.id).error().code(), Code::kNotFound);
  ASSERT_TRUE(store_->remove_root("c1").ok());
  expect_nothing_left();
  EXPECT_TRUE(store_->remove_root("c1").ok());
}

TEST_F(StoreTest, ImagesShareLayersAndDropOnlyTheirOwn) {
  const ImageMaker one = two_layers("one\n");
  const ImageMaker two = two_layers("two\n");
  one.serve(*fake_, "a/b", "v1");
  two.serve(*fake_, "a/b", "v2");
  ASSERT_TRUE(pull("a/b:v1").ok());
  ASSERT_TRUE(pull("a/b:v2").ok());
  EXPECT_EQ(fake_->count("GET /v2/a/b/blobs/" + sha256_of(one.layers()[0])), 1U);
  EXPECT_EQ(names_in("layers").size(), 3U);
  ASSERT_TRUE(store_->remove(name("a/b:v1")).ok());
  EXPECT_EQ(names_in("layers").size(), 2U);
  EXPECT_EQ(store_->read_image_file(two.image_id(), "/etc/hostname", 99).value(), "two\n");
}

TEST_F(StoreTest, ATagThatMovesLeavesTheOldImageItsDigest) {
  const ImageMaker one = two_layers("one\n");
  one.serve(*fake_, "a/b", "v1");
  const std::string old_id = pull("a/b:v1")->id;
  two_layers("two\n").serve(*fake_, "a/b", "v1");
  const Image moved = pull("a/b:v1").value();
  EXPECT_NE(moved.id, old_id);
  const Image old = store_->find(old_id).value().value();
  EXPECT_THAT(old.repo_tags, IsEmpty());
  EXPECT_THAT(old.repo_digests, ElementsAre(cat(name("a/b@"), one.manifest_digest())));
}

TEST_F(StoreTest, UntagTakesTheImageWithItsLastName) {
  const ImageMaker maker = two_layers();
  maker.serve(*fake_, "a/b", "v1");
  maker.serve(*fake_, "a/b", "v2");
  ASSERT_TRUE(pull("a/b:v1").ok());
  const Image both = pull("a/b:v2").value();
  EXPECT_THAT(both.repo_tags, ElementsAre(name("a/b:v1"), name("a/b:v2")));
  ASSERT_TRUE(store_->untag(name("a/b:v1")).ok());
  EXPECT_EQ(store_->list()->size(), 1U);
  ASSERT_TRUE(store_->untag(name("a/b:v2")).ok());
  expect_nothing_left();
}

TEST_F(StoreTest, ASecondPullAsksOnlyForTheDigest) {
  two_layers().serve(*fake_, "a/b", "v1");
  ASSERT_TRUE(pull("a/b:v1").ok());
  const size_t before = fake_->requests().size();
  ASSERT_TRUE(pull("a/b:v1").ok());
  EXPECT_EQ(fake_->requests().size(), before + 1);
}

TEST_F(StoreTest, ManyPullsFetchEachBlobOnce) {
  const ImageMaker one = two_layers("one\n");
  const ImageMaker two = two_layers("two\n");
  one.serve(*fake_, "a/b", "v1");
  two.serve(*fake_, "c/d", "v1");
  std::vector<std::thread> threads;
  std::atomic<int> good{0};
  for (int i = 0; i < 8; ++i) {
    threads.emplace_back([&, i] {
      if (pull(i % 2 == 0 ? "a/b:v1" : "c/d:v1").ok()) ++good;
    });
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(good, 8);
  EXPECT_EQ(store_->list()->size(), 2U);
  const std::string shared = sha256_of(one.layers()[0]);
  EXPECT_EQ(
      fake_->count("GET /v2/a/b/blobs/" + shared) + fake_->count("GET /v2/c/d/blobs/" + shared),
      1U);
  EXPECT_EQ(fake_->count("GET /v2/a/b/blobs/" + sha256_of(one.layers()[1])), 1U);
}

TEST_F(StoreTest, AnIndexThatNamesNoPlatformsIsReadByItsConfigs) {
  const ImageMaker maker = two_layers();
  ImageMaker other = two_layers();
  other.config().platform.architecture = "riscv64";
  oci::Index index{.media_type = std::string(oci::media_type::kOciIndex)};
  for (const ImageMaker* one : {&std::as_const(other), &maker}) {
    one->serve(*fake_, "a/b", "plain");
    index.manifests.push_back(one->manifest_descriptor());
    index.manifests.back().platform.reset();
  }
  const std::string text = oci::to_json(index);
  for (const std::string& target : {std::string("multi"), sha256_of(text)})
    fake_->serve("/v2/a/b/manifests/" + target, index.media_type, text);
  const auto image = pull("a/b:multi");
  ASSERT_TRUE(image.ok()) << image.error().message();
  EXPECT_EQ(image->id, maker.image_id());
  ASSERT_TRUE(store_->remove(image->id).ok());
  PullOptions none;
  none.platform = oci::Platform::parse("linux/s390x").value();
  expect_refused(pull("a/b:multi", none), Code::kNotFound, "riscv64");
}

TEST_F(StoreTest, AnEntryWithoutPlatformThatCannotBeHadIsNotThisOne) {
  const ImageMaker maker = two_layers();
  maker.serve(*fake_, "a/b", "plain");
  oci::Descriptor gone = maker.manifest_descriptor();
  gone.platform.reset();
  gone.digest = oci::Digest::from_sha256_hex(std::string(64, 'd'));
  oci::Descriptor there = maker.manifest_descriptor();
  there.platform.reset();
  const auto serve = [&](const std::vector<oci::Descriptor>& entries) {
    const std::string text = oci::to_json(
        oci::Index{.media_type = std::string(oci::media_type::kOciIndex), .manifests = entries});
    for (const std::string& target : {std::string("multi"), sha256_of(text)}) {
      fake_->serve("/v2/a/b/manifests/" + target, std::string(oci::media_type::kOciIndex), text);
    }
  };
  serve({gone, there});
  const auto image = pull("a/b:multi");
  ASSERT_TRUE(image.ok()) << image.error().message();
  EXPECT_EQ(image->id, maker.image_id());
  ASSERT_TRUE(store_->remove(image->id).ok());
  // Before 32 bits what may be native is looked at.
  ImageMaker small = two_layers();
  small.config().platform.architecture = "386";
  small.serve(*fake_, "a/b", "small");
  PullOptions amd64;
  amd64.platform = oci::Platform::parse("linux/amd64").value();
  ImageMaker native = two_layers();
  native.config().platform.architecture = "amd64";
  native.serve(*fake_, "a/b", "native");
  there = native.manifest_descriptor();
  there.platform.reset();
  serve({small.manifest_descriptor(), there});
  const auto chosen = pull("a/b:multi", amd64);
  ASSERT_TRUE(chosen.ok()) << chosen.error().message();
  EXPECT_EQ(chosen->id, native.image_id());
  ASSERT_TRUE(store_->remove(chosen->id).ok());
  serve({gone, gone});
  expect_refused(pull("a/b:multi"), Code::kNotFound, "dddd");
}

TEST_F(StoreTest, AnArchitectureByAnotherNameIsKnownAgain) {
  ImageMaker maker = two_layers();
  maker.config().platform.architecture = "x86_64";
  maker.serve(*fake_, "a/b", "v1");
  PullOptions amd64;
  amd64.platform = oci::Platform::parse("linux/amd64").value();
  const std::string config = cat("GET /v2/a/b/blobs/", maker.image_id());
  for (int i = 0; i < 2; ++i) {
    const auto image = pull("a/b:v1", amd64);
    ASSERT_TRUE(image.ok()) << image.error().message();
    EXPECT_EQ(fake_->count(config), 1U);
  }
}

TEST_F(StoreTest, ChoosesThePlatformOfAnIndex) {
  const ImageMaker maker = two_layers();
  maker.serve(*fake_, "a/b", "plain");
  oci::Descriptor other = maker.manifest_descriptor();
  other.platform->architecture = "s390x";
  other.digest = oci::Digest::from_sha256_hex(std::string(64, 'd'));
  const std::string index =
      oci::to_json(oci::Index{.media_type = std::string(oci::media_type::kOciIndex),
                              .manifests = {other, maker.manifest_descriptor()}});
  fake_->serve("/v2/a/b/manifests/multi", std::string(oci::media_type::kOciIndex), index);
  fake_->serve("/v2/a/b/manifests/" + sha256_of(index), std::string(oci::media_type::kOciIndex),
               index);
  const auto image = pull("a/b:multi");
  ASSERT_TRUE(image.ok()) << image.error().message();
  EXPECT_EQ(image->id, maker.image_id());
  EXPECT_THAT(image->repo_digests, ElementsAre(cat(name("a/b@"), sha256_of(index))));
  ASSERT_TRUE(store_->remove(image->id).ok());
  expect_nothing_left();
  PullOptions riscv;
  riscv.platform = oci::Platform::parse("linux/riscv64").value();
  expect_refused(pull("a/b:multi", riscv), Code::kNotFound, "riscv64");
  expect_refused(pull("a/b:plain", riscv), Code::kNotFound, "riscv64");
}

TEST_F(StoreTest, ProgressIsTold) {
  two_layers().serve(*fake_, "a/b", "v1");
  std::map<std::string, LayerProgress> last;
  PullOptions options;
  options.progress = [&](const LayerProgress& progress) { last[progress.digest] = progress; };
  ASSERT_TRUE(pull("a/b:v1", options).ok());
  ASSERT_EQ(last.size(), 2U);
  for (const auto& [digest, progress] : last) {
    EXPECT_EQ(progress.phase, LayerProgress::Phase::kDone);
    EXPECT_EQ(progress.done_bytes, progress.total_bytes);
  }
}

// What follows is bad input: one clear error each, and nothing left behind.

TEST_F(StoreTest, AnUnknownTagIsRefused) {
  two_layers().serve(*fake_, "a/b", "v1");
  expect_refused(pull("a/b:nope"), Code::kNotFound, "/v2/a/b/manifests/nope = 404");
  expect_refused(pull("no/such:v1"), Code::kNotFound, "/v2/no/such/manifests/v1 = 404");
}

TEST_F(StoreTest, ARegistryThatIsNotThere) {
  const std::string gone = name("a/b:v1");
  fake_.reset();
  expect_refused(store_->pull(oci::Reference::parse(gone).value(), {}), Code::kUnavailable,
                 "refused");
}

TEST_F(StoreTest, ALayerThatIsTruncatedOrHangs) {
  const ImageMaker maker = two_layers();
  maker.serve(*fake_, "a/b", "v1");
  const std::string path = "/v2/a/b/blobs/" + sha256_of(maker.layers()[1]);
  for (const auto& [fault, code] :
       {std::pair(Reply::Fault::kClose, Code::kUnavailable),
        std::pair(Reply::Fault::kHangInBody, Code::kDeadlineExceeded),
        std::pair(Reply::Fault::kHangBeforeHead, Code::kDeadlineExceeded)}) {
    // By value: one that hangs is still answered when this test has ended.
    fake_->set_hook([path, body = maker.layers()[1],
                     bad = fault](const FakeRegistry::Request& request) -> std::optional<Reply> {
      if (request.target != path) return std::nullopt;
      return Reply{.body = body, .fault = bad, .cut = 600};
    });
    expect_refused(pull("a/b:v1"), code, path);
  }
}

TEST_F(StoreTest, WrongBytesForALayersDigest) {
  const ImageMaker maker = two_layers();
  maker.serve(*fake_, "a/b", "v1");
  const std::string digest = sha256_of(maker.layers()[1]);
  std::string other = maker.layers()[1];
  other[other.find("box")] = 'f';
  fake_->serve("/v2/a/b/blobs/" + digest, "application/octet-stream", other);
  expect_refused(pull("a/b:v1"), Code::kDataLoss, digest);
}

TEST_F(StoreTest, WrongBytesForTheConfigsDigest) {
  const ImageMaker maker = two_layers();
  maker.serve(*fake_, "a/b", "v1");
  std::string other = maker.config_json();
  other.back() = ' ';
  fake_->serve("/v2/a/b/blobs/" + maker.image_id(), "application/octet-stream", other);
  expect_refused(pull("a/b:v1"), Code::kDataLoss, maker.image_id());
}

TEST_F(StoreTest, ADiffIdThatTheLayerDoesNotHave) {
  ImageMaker maker = two_layers();
  maker.config().diff_ids[1] = oci::Digest::from_sha256_hex(std::string(64, 'b'));
  maker.serve(*fake_, "a/b", "v1");
  expect_refused(pull("a/b:v1"), Code::kDataLoss, std::string(64, 'b'));
}

class ManifestTest : public StoreTest {
 protected:
  // Serves `text` as manifest and, when given, `config` under its real digest.
  void serve(const std::string& text, const std::string& type) {
    fake_->serve("/v2/a/b/manifests/v1", type, text);
    fake_->serve("/v2/a/b/manifests/" + sha256_of(text), type, text);
  }
  std::string manifest_over(const std::string& config) {
    const ImageMaker maker = two_layers();
    maker.serve(*fake_, "a/b", "other");
    oci::Manifest manifest = maker.manifest();
    manifest.config.digest = oci::Digest::parse(sha256_of(config)).value();
    manifest.config.size = static_cast<int64_t>(config.size());
    fake_->serve("/v2/a/b/blobs/" + sha256_of(config), "application/octet-stream", config);
    return oci::to_json(manifest);
  }
  const std::string oci_ = std::string(oci::media_type::kOciManifest);
};

TEST_F(ManifestTest, AConfigThatIsNotJson) {
  serve(manifest_over("this is not JSON"), oci_);
  expect_refused(pull("a/b:v1"), Code::kInvalidArgument, "image config");
}

TEST_F(ManifestTest, AManifestThatIsNotJson) {
  serve("<html>", oci_);
  expect_refused(pull("a/b:v1"), Code::kInvalidArgument, "image manifest");
}

TEST_F(ManifestTest, SchemaOneIsRefusedByName) {
  serve(R"({"schemaVersion":1,"name":"a/b","tag":"v1","fsLayers":[],"history":[]})",
        std::string(oci::media_type::kDockerManifestV1Signed));
  auto got = pull("a/b:v1");
  ASSERT_FALSE(got.ok());
  EXPECT_THAT(got.error().message(), HasSubstr("schema"));
  expect_nothing_left();
}

TEST_F(ManifestTest, AnAmbiguousManifestIsRefused) {
  std::string text = manifest_over(two_layers().config_json());
  text.insert(1, R"("manifests":[],)");
  serve(text, oci_);
  expect_refused(pull("a/b:v1"), Code::kInvalidArgument, "manifests");
}

TEST_F(ManifestTest, AMediaTypeOtherThanItWasSentAs) {
  serve(two_layers().manifest_json(), std::string(oci::media_type::kDockerManifest));
  expect_refused(pull("a/b:v1"), Code::kInvalidArgument, "mediaType");
}

TEST_F(ManifestTest, AnArtifactIsNoImage) {
  oci::Manifest manifest = two_layers().manifest();
  manifest.config.media_type = "application/vnd.oci.empty.v1+json";
  serve(oci::to_json(manifest), oci_);
  expect_refused(pull("a/b:v1"), Code::kInvalidArgument, "this is an artifact, not an image");
  manifest.config.media_type = "application/vnd.cncf.helm.config.v1+json";
  serve(oci::to_json(manifest), oci_);
  expect_refused(pull("a/b:v1"), Code::kInvalidArgument, "not an image: a Helm chart");
}

// cosign's signatures and BuildKit's attestations have an image's config, of no platform.
TEST_F(ManifestTest, AnArtifactWithAnImagesConfigIsNoImage) {
  const std::string config =
      R"({"architecture":"","os":"","rootfs":{"type":"layers","diff_ids":[]}})";
  oci::Manifest manifest = oci::parse_manifest(manifest_over(config)).value();
  for (const auto& [type, what] : {std::pair("application/vnd.dev.cosign.simplesigning.v1+json",
                                             "not an image: a cosign signature"),
                                   std::pair("application/vnd.in-toto+json", "an attestation")}) {
    for (oci::Descriptor& layer : manifest.layers) layer.media_type = type;
    serve(oci::to_json(manifest), oci_);
    expect_refused(pull("a/b:v1"), Code::kInvalidArgument, what);
  }
}

TEST_F(ManifestTest, AnIndexOfArtifactsIsNoImage) {
  oci::Manifest manifest = two_layers().manifest();
  manifest.config.media_type = "application/vnd.oci.empty.v1+json";
  oci::Index index{.media_type = std::string(oci::media_type::kOciIndex)};
  for (const char* type : {"application/vnd.example.sbom", "application/vnd.example.scan"}) {
    manifest.artifact_type = type;
    const std::string text = oci::to_json(manifest);
    fake_->serve("/v2/a/b/manifests/" + sha256_of(text), oci_, text);
    index.manifests.push_back({.media_type = oci_,
                               .digest = oci::Digest::parse(sha256_of(text)).value(),
                               .size = static_cast<int64_t>(text.size()),
                               .artifact_type = type});
  }
  serve(oci::to_json(index), std::string(oci::media_type::kOciIndex));
  expect_refused(pull("a/b:v1"), Code::kInvalidArgument,
                 "none of its 2 entries is an image: it lists artifacts "
                 "(\"application/vnd.example.sbom\", \"application/vnd.example.scan\")");
}

TEST_F(ManifestTest, AnIndexThatIsItsOwnEntryEnds) {
  // No index can hold its own digest; one that names another, nine deep, can be made.
  std::string text = two_layers().manifest_json();
  std::string type = oci_;
  for (int i = 0; i < 10; ++i) {
    oci::Descriptor entry{.media_type = type,
                          .digest = oci::Digest::parse(sha256_of(text)).value(),
                          .size = static_cast<int64_t>(text.size())};
    fake_->serve("/v2/a/b/manifests/" + sha256_of(text), type, text);
    type = std::string(oci::media_type::kOciIndex);
    text = oci::to_json(oci::Index{.media_type = type, .manifests = {entry}});
  }
  serve(text, type);
  expect_refused(pull("a/b:v1"), Code::kInvalidArgument, "indexes in each other");
}

TEST_F(StoreTest, NamesThatClimbOutOfALayer) {
  const std::string victim = folder_->path() + "/victim";
  const std::vector<std::vector<TarFile>> hostile = {
      {{"../../../../victim", "x"}},
      {{"a/../../../../../victim", "x"}},
      {{"out", "", "../../../.."}, {"out/victim", "x"}},
      {{"up", "", folder_->path()}, {"up/victim", "x"}},
      {{"h", "", "", "../../../../../../etc/passwd"}},
  };
  int tag = 0;
  for (const auto& files : hostile) {
    ImageMaker maker;
    maker.add_layer({{"etc/", ""}});
    maker.add_layer(files);
    const std::string name = cat("a/b:t", ++tag);
    maker.serve(*fake_, "a/b", cat("t", tag));
    auto got = pull(name);
    // Refused, or kept within the layer: never outside.
    if (got.ok()) {
      EXPECT_TRUE(store_->remove(got->id).ok());
    }
    EXPECT_FALSE(sys::exists(victim)) << tag;
    EXPECT_FALSE(sys::exists(folder_->path() + "/store/victim")) << tag;
    EXPECT_FALSE(sys::exists(folder_->path() + "/store/layers/victim")) << tag;
    expect_nothing_left();
  }
}

TEST_F(StoreTest, CancellingTheLastCallerEndsThePull) {
  const ImageMaker maker = two_layers();
  maker.serve(*fake_, "a/b", "v1");
  store_.reset();
  StoreOptions slow{.root = folder_->path() + "/store", .unpack_program = unpack_program()};
  store_ = ImageStore::open(slow, logger_).value();
  fake_->set_hook([&](const FakeRegistry::Request& request) -> std::optional<Reply> {
    if (!request.target.ends_with(sha256_of(maker.layers()[1]))) return std::nullopt;
    return Reply{.body = maker.layers()[1], .fault = Reply::Fault::kHangInBody, .cut = 10};
  });
  std::atomic<bool> cancelled{false};
  PullOptions options;
  options.is_given_up = [&] { return cancelled.load(); };
  std::thread canceller([&] {
    std::this_thread::sleep_for(std::chrono::milliseconds(300));
    cancelled = true;
  });
  const int64_t before = now_boot_ns();
  auto got = pull("a/b:v1", options);
  canceller.join();
  EXPECT_LT(now_boot_ns() - before, 2'000'000'000);
  expect_refused(std::move(got), Code::kCancelled, "cancelled");
}

TEST_F(StoreTest, ImportsAnArchiveWithItsNames) {
  const ImageMaker maker = two_layers();
  const std::string path = folder_->path() + "/a.tar";
  for (const auto& files : {maker.layout_files("busybox:7"), maker.docker_files("busybox:7")}) {
    ASSERT_TRUE(sys::write_file_atomic(sys::kCwd, path, make_tar(files), 0644).ok());
    auto images = store_->import(path, {});
    ASSERT_TRUE(images.ok()) << images.error().message();
    ASSERT_EQ(images->size(), 1U);
    EXPECT_EQ((*images)[0].id, maker.image_id());
    EXPECT_THAT((*images)[0].repo_tags, ElementsAre("docker.io/library/busybox:7"));
    EXPECT_TRUE(store_->find("busybox:7")->has_value());
    EXPECT_THAT(names_in("staging"), IsEmpty());
    ASSERT_TRUE(store_->remove("busybox:7").ok());
    expect_nothing_left();
  }
  ASSERT_TRUE(store_->import(path, {.name = "mine:1"}).ok());
  EXPECT_THAT(store_->list().value()[0].repo_tags, ElementsAre("docker.io/library/mine:1"));
}

TEST_F(StoreTest, ImportLeavesOutWhatIsForOthersBesideWhatSuits) {
  const ImageMaker maker = two_layers();
  ImageMaker other = two_layers();
  other.config().platform.architecture = "riscv64";
  const std::string path = folder_->path() + "/a.tar";
  const auto write = [&](const std::vector<const ImageMaker*>& makers) {
    oci::Index index{.media_type = std::string(oci::media_type::kOciIndex)};
    std::vector<TarFile> files;
    for (const ImageMaker* one : makers) {
      for (TarFile& file : one->layout_files("x")) files.push_back(std::move(file));
      index.manifests.push_back(one->manifest_descriptor());
      index.manifests.back().annotations["org.opencontainers.image.ref.name"] =
          cat("a/b:", makers.size());
    }
    std::erase_if(files, [](const TarFile& file) { return file.name == "index.json"; });
    files.push_back({"index.json", oci::to_json(index)});
    ASSERT_TRUE(sys::write_file_atomic(sys::kCwd, path, make_tar(files), 0644).ok());
  };
  write({&other, &maker});
  const auto images = store_->import(path, {});
  ASSERT_TRUE(images.ok()) << images.error().message();
  ASSERT_EQ(images->size(), 1U);
  EXPECT_EQ((*images)[0].id, maker.image_id());
  write({&other});
  const auto none = store_->import(path, {});
  ASSERT_FALSE(none.ok());
  EXPECT_EQ(none.error().code(), Code::kNotFound);
  EXPECT_THAT(none.error().message(), HasSubstr("riscv64"));
}

TEST_F(StoreTest, ImportChecksDigestsLikeAPull) {
  const ImageMaker maker = two_layers();
  auto files = maker.layout_files("busybox:7");
  for (TarFile& file : files) {
    if (file.content == maker.layers()[1]) file.content[file.content.find("box")] = 'f';
  }
  const std::string path = folder_->path() + "/a.tar";
  ASSERT_TRUE(sys::write_file_atomic(sys::kCwd, path, make_tar(files), 0644).ok());
  auto images = store_->import(path, {});
  ASSERT_FALSE(images.ok());
  EXPECT_EQ(images.error().code(), Code::kDataLoss);
  EXPECT_THAT(images.error().message(), HasSubstr(sha256_of(maker.layers()[1])));
  expect_nothing_left();
}

}  // namespace
}  // namespace fluyt::image
