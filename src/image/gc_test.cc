#include <thread>

#include "image/gc_plan.h"
#include "image/store_fixture.h"

namespace fluyt::image {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using testing::ImageMaker;
using ::testing::IsEmpty;
using testing::sha256_of;
using Mode = GcOptions::Mode;

class GcTest : public testing::StoreFixture {
 protected:
  GcReport explain() { return library().collect_garbage({}).value(); }
  GcReport collect(std::function<bool(const std::string&)> is_container = {}) {
    auto report = library().collect_garbage({Mode::kCollect, std::move(is_container)});
    EXPECT_TRUE(report.ok()) << report.error().message();
    return report.ok() ? *report : GcReport{};
  }
  // kind/name of what goes.
  static std::vector<std::string> going(const GcReport& report) {
    std::vector<std::string> out;
    for (const GcItem& item : report.items) {
      if (item.goes) out.push_back(item.name);
    }
    return out;
  }
  static const GcItem* find(const GcReport& report, const std::string& name) {
    for (const GcItem& item : report.items) {
      if (item.name == name) return &item;
    }
    return nullptr;
  }
};

TEST_F(GcTest, EveryThingOnTheDiskIsExplained) {
  const ImageMaker maker = image_with("one");
  maker.serve(*fake_, "a/b", "v1");
  const Image image = pull("a/b:v1").value();
  ASSERT_TRUE(store_->create_root("c1", image.id).ok());
  const GcReport report = explain();
  EXPECT_THAT(going(report), IsEmpty());
  const GcItem* layer = find(report, sha256_of(maker.layers()[0]));
  ASSERT_NE(layer, nullptr);
  EXPECT_THAT(layer->holders, ElementsAre(name("a/b:v1"), "container c1"));
  const GcItem* root = find(report, "c1");
  ASSERT_NE(root, nullptr);
  EXPECT_EQ(root->kind, GcItem::Kind::kRoot);
  EXPECT_EQ(find(report, "catalog.db")->kind, GcItem::Kind::kCatalog);
  for (const GcItem& item : report.items) EXPECT_FALSE(item.reason.empty()) << item.name;
}

TEST_F(GcTest, WhatNothingRefersToGoes) {
  const ImageMaker maker = image_with("one");
  maker.serve(*fake_, "a/b", "v1");
  const Image image = pull("a/b:v1").value();
  const std::string stray = std::string(64, 'a');
  ASSERT_TRUE(sys::make_dirs(path("layers/" + stray + "/fs"), 0700).ok());
  write("blobs/sha256/" + stray, "nobody's");
  write("blobs/sha256/" + stray + ".0123.tmp", "half");
  ASSERT_TRUE(sys::make_dirs(path("staging/half/fs"), 0700).ok());
  ASSERT_TRUE(sys::make_dirs(path("trash/old"), 0700).ok());
  ASSERT_TRUE(sys::make_dirs(path("roots/nobody/upper"), 0700).ok());
  ASSERT_TRUE(sys::make_dirs(path("roots/@removed-0/upper"), 0700).ok());
  write("notes.txt", "somebody's own");
  const GcReport before = explain();
  EXPECT_EQ(going(before).size(), 7U);
  EXPECT_GT(before.going_bytes, 8192U);
  EXPECT_EQ(find(before, "notes.txt")->kind, GcItem::Kind::kUnknown);
  EXPECT_EQ(going(collect()), going(before));
  EXPECT_THAT(names_in("staging"), IsEmpty());
  EXPECT_THAT(names_in("trash"), IsEmpty());
  EXPECT_THAT(names_in("roots"), IsEmpty()) << "once the removal behind it has ended";
  EXPECT_THAT(going(explain()), IsEmpty());
  EXPECT_EQ(names_in("layers").size(), 2U);
  EXPECT_TRUE(sys::exists(path("notes.txt")));
  EXPECT_EQ(store_->read_image_file(image.id, "/etc/hostname", 99).value(), "one");
}

TEST_F(GcTest, ARootWithoutAContainerGoesWithTheLayersThatItAloneHeld) {
  image_with("one").serve(*fake_, "a/b", "v1");
  const Image image = pull("a/b:v1").value();
  ASSERT_TRUE(store_->create_root("c1", image.id).ok());
  ASSERT_TRUE(store_->remove(image.id).ok());
  EXPECT_THAT(going(collect([](const std::string& id) { return id == "c1"; })), IsEmpty());
  EXPECT_EQ(names_in("layers").size(), 2U);
  EXPECT_GE(going(collect([](const std::string&) { return false; })).size(), 3U);
  EXPECT_THAT(names_in("fixups"), IsEmpty());
  EXPECT_THAT(names_in("layers"), IsEmpty());
  EXPECT_THAT(names_in("roots"), IsEmpty());
  EXPECT_TRUE(store_->list_roots()->empty());
}

// While pulls come and go, a collection a millisecond: nothing that they need is taken.
TEST_F(GcTest, RunsBesidePullsAndStarts) {
  for (int i = 0; i < 4; ++i) {
    image_with(cat("top ", i)).serve(*fake_, "a/b", cat("v", i));
  }
  std::atomic<bool> stop{false};
  std::atomic<int> collections{0};
  std::thread collector([&] {
    while (!stop) {
      EXPECT_TRUE(library().collect_garbage({.mode = Mode::kCollect}).ok());
      ++collections;
    }
  });
  std::vector<std::thread> pullers;
  for (int i = 0; i < 4; ++i) {
    pullers.emplace_back([&, i] {
      for (int round = 0; round < 3; ++round) {
        const auto image = pull(cat("a/b:v", i));
        ASSERT_TRUE(image.ok()) << image.error().message();
        const std::string id = cat("c", i, "-", round);
        const auto root = store_->create_root(id, image->id);
        ASSERT_TRUE(root.ok()) << root.error().message();
        EXPECT_EQ(store_->read_image_file(image->id, "/etc/hostname", 99).value(), cat("top ", i));
        ASSERT_TRUE(store_->remove_root(id).ok());
        ASSERT_TRUE(store_->remove(image->id).ok());
      }
    });
  }
  for (std::thread& puller : pullers) puller.join();
  stop = true;
  collector.join();
  EXPECT_GT(collections, 3);
  EXPECT_THAT(names_in("layers"), IsEmpty());
  EXPECT_THAT(names_in("blobs/sha256"), IsEmpty());
}

TEST_F(GcTest, PinnedImagesAreSaidToBeAndAreNotPruned) {
  image_with("one").serve(*fake_, "pause", "3.9");
  image_with("two").serve(*fake_, "infra/proxy", "1");
  image_with("three").serve(*fake_, "a/b", "v1");
  library().keep_pinned({name("pause:3.9"), name("infra/*")});
  const Image pause = pull("pause:3.9").value();
  EXPECT_TRUE(pause.pinned);
  // Durable before the pull returned: no row is left for the sync behind it.
  EXPECT_TRUE(library().describe(pause.id)->value().layers[0].durable);
  EXPECT_TRUE(pull("infra/proxy:1").value().pinned);
  const Image other = pull("a/b:v1").value();
  EXPECT_FALSE(other.pinned);
  const auto unused = library().list_unused(Unused::kAll);
  ASSERT_EQ(unused.size(), 1U);
  EXPECT_EQ(unused[0].image.id, other.id);
}

TEST_F(GcTest, TheHolderOfAStoreIsNamed) {
  StoreOptions options = options_;
  const auto second = ImageStore::open(options, logger_);
  ASSERT_FALSE(second.ok());
  EXPECT_THAT(second.error().message(),
              HasSubstr(cat("another process has it open: pid ", ::getpid())));
}

}  // namespace
}  // namespace fluyt::image
