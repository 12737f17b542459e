// "Durable or same boot": what is kept and what is dropped.

#include "image/durability.h"

#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <chrono>
#include <csignal>
#include <functional>
#include <future>
#include <memory>
#include <optional>
#include <thread>

#include "base/strings.h"
#include "image/catalog/catalog.h"
#include "image/image_store.h"
#include "image/library.h"
#include "image/testing/fake_registry.h"
#include "image/testing/image_maker.h"
#include "sys/file.h"

namespace {

// What a test has happen in a sync, which no disk at hand does when asked to. False: it fails.
std::function<bool()>& in_sync() {
  static std::function<bool()> hook;
  return hook;
}

}  // namespace

// Takes the place of the C library's in this program.
extern "C" int syncfs(int fd) noexcept {
  const bool fails = in_sync() && !in_sync()();
  const auto result = static_cast<int>(syscall(SYS_syncfs, fd));
  if (!fails) return result;
  errno = EIO;
  return -1;
}

namespace fluyt::image {
namespace {

using ::testing::ElementsAre;
using testing::FakeRegistry;
using testing::ImageMaker;
using ::testing::IsEmpty;
using ::testing::SizeIs;

class DurabilityTest : public ::testing::Test {
 protected:
  void SetUp() override {
    signal(SIGPIPE, SIG_IGN);
    folder_ = std::make_unique<sys::TempDir>(sys::TempDir::create().value());
    fake_ = FakeRegistry::start().value();
    maker_.add_layer({{"etc/", ""}, {"etc/hostname", "box\n"}});
    maker_.serve(*fake_, "a/b", "v1");
    open();
  }
  void TearDown() override {
    phase_ = kHealed;
    store_.reset();  // its thread syncs
    in_sync() = nullptr;
  }

  void open() {
    const std::string self = sys::read_link(sys::kCwd, "/proc/self/exe").value();
    const std::string build = self.substr(0, self.rfind("/test/"));
    auto opened = ImageStore::open({.root = folder_->path() + "/store",
                                    .state = folder_->path() + "/state",
                                    .certs_dir = folder_->path() + "/certs",
                                    .unpack_program = build + "/bin/fluyt-unpack"},
                                   logger_);
    ASSERT_TRUE(opened.ok()) << opened.error().message();
    store_ = std::move(*opened);
  }
  Result<Image> pull(const std::string& name = "/a/b:v1") {
    return store_->pull(oci::Reference::parse(cat(fake_->host(), name)).value(), {});
  }
  // /a/linked:v1, whose upper layer has "g" as a hard link to the lower one's "f".
  void serve_linked() {
    ImageMaker maker;
    maker.add_layer({{"f", "content"}});
    maker.add_layer({{"g", "", "", "f"}});
    maker.serve(*fake_, "a/linked", "v1");
  }
  std::vector<std::string> names_in(const std::string& folder) const {
    return sys::list_dir(cat(folder_->path(), "/store/", folder)).value();
  }
  // What a power cut does to a file whose bytes were on no disk.
  void empty(const std::string& file) const {
    ASSERT_EQ(::truncate(cat(folder_->path(), "/store/", file).c_str(), 0), 0) << file;
  }
  // The rows of all layers, in a closed store.
  std::vector<LayerRow> rows() {
    const auto catalog = Catalog::open(folder_->path() + "/store/catalog.db").value();
    return catalog->read([](const CatalogState& state) {
      std::vector<LayerRow> out;
      for (const auto& [diff_id, row] : state.layers) out.push_back(row);
      return out;
    });
  }
  // The store closed, and what `change` makes of its layers' rows.
  void close_with(const std::function<void(LayerRow&)>& change) {
    store_.reset();
    std::vector<LayerRow> changed = rows();
    for (LayerRow& row : changed) change(row);
    const auto catalog = Catalog::open(folder_->path() + "/store/catalog.db").value();
    ASSERT_TRUE(catalog->commit({.put_layers = changed}).ok());
  }
  // Pulled; and what `change` makes of its layer's row before the next start.
  void restart_with(const std::function<void(LayerRow&)>& change) {
    ASSERT_TRUE(pull().ok());
    close_with(change);
    ASSERT_THAT(rows(), SizeIs(1));
    open();
  }
  std::vector<std::string> trees() const { return names_in("layers"); }

  enum Phase { kBefore, kFailing, kHealed };
  // Syncs of a store with images wait for kFailing, and fail until kHealed. What is written ahead
  // of the first image's sync is none of these.
  void break_syncs() {
    in_sync() = [this] {
      if (phase_ == kHealed || store_->list()->empty()) return true;
      while (phase_ == kBefore) std::this_thread::sleep_for(std::chrono::milliseconds(2));
      return phase_ == kHealed;
    };
  }
  void wait_until_nothing_is_left() {
    for (int i = 0; i < 1000 && !(trees().empty() && store_->list()->empty()); ++i) {
      std::this_thread::sleep_for(std::chrono::milliseconds(5));
    }
    EXPECT_THAT(store_->list().value(), IsEmpty());
    EXPECT_THAT(trees(), IsEmpty());
  }

  // Whether it is noted, for the next process, that the disk lost writes; waits until it is
  // `wanted`.
  bool is_noted(bool wanted) const {
    const std::string note = folder_->path() + "/state/image-lost-writes";
    for (int i = 0; i < 1000 && sys::exists(note) != wanted; ++i) {
      std::this_thread::sleep_for(std::chrono::milliseconds(5));
    }
    return sys::exists(note);
  }

  std::atomic<int> phase_{kBefore};
  NullLogger logger_;
  std::unique_ptr<sys::TempDir> folder_;
  std::unique_ptr<FakeRegistry> fake_;
  ImageMaker maker_;
  std::unique_ptr<ImageStore> store_;
};

TEST(Syncer, WhatWasNotDoneIsTriedAgain) {
  std::atomic<int> calls{0};
  std::promise<void> done;
  Syncer syncer(
      [&] {
        if (++calls < 3) return Syncer::Outcome::kTryAgain;
        done.set_value();
        return Syncer::Outcome::kDone;
      },
      [] {}, std::chrono::milliseconds(1));
  syncer.ask();
  EXPECT_EQ(done.get_future().wait_for(std::chrono::seconds(20)), std::future_status::ready);
}

// Another image that has the layer brings it anew. The old tree stays under who stands on it, and
// the new one is durable when it was synced, whatever the old one was.
TEST_F(DurabilityTest, ALayerWhoseRecordIsDamagedIsBroughtAnew) {
  const Image image = pull().value();
  const auto is_durable = [&] {
    return library_of(*store_).describe(image.id).value()->layers.at(0).durable;
  };
  const auto wait_until_durable = [&] {
    for (int i = 0; i < 1000 && !is_durable(); ++i) {
      std::this_thread::sleep_for(std::chrono::milliseconds(5));
    }
    EXPECT_TRUE(is_durable());
  };
  wait_until_durable();
  ASSERT_TRUE(store_->create_root("c1", image.id).ok());
  empty(cat("layers/", trees().at(0), "/layer.json"));
  maker_.config().config.env = {"OTHER=1"};
  maker_.serve(*fake_, "a/c", "v1");
  break_syncs();
  const auto other = pull("/a/c:v1");
  ASSERT_TRUE(other.ok()) << other.error().message();
  EXPECT_NE(other->id, image.id);
  EXPECT_FALSE(is_durable());
  phase_ = kHealed;
  wait_until_durable();
  EXPECT_EQ(store_->read_image_file(other->id, "/etc/hostname", 99).value(), "box\n");
  EXPECT_EQ(store_->read_image_file(image.id, "/etc/hostname", 99).value(), "box\n");
  EXPECT_THAT(trees(), SizeIs(1));
  EXPECT_THAT(names_in("aside"), SizeIs(1)) << "c1 stands on it";
  ASSERT_TRUE(store_->remove_root("c1").ok());
  EXPECT_THAT(names_in("aside"), IsEmpty());
}

TEST_F(DurabilityTest, WhatIsNotDurableIsKeptInItsBootAndMount) {
  restart_with([](LayerRow& row) { row.durable = false; });
  EXPECT_THAT(store_->list().value(), SizeIs(1));
  EXPECT_THAT(trees(), SizeIs(1));
}

TEST_F(DurabilityTest, WhatIsNotDurableIsLostInAnotherBoot) {
  restart_with([](LayerRow& row) {
    row.durable = false;
    row.boot_id = "00000000-0000-0000-0000-000000000000";
  });
  EXPECT_THAT(store_->list().value(), IsEmpty());
  EXPECT_THAT(trees(), IsEmpty());
  EXPECT_TRUE(pull().ok());
}

TEST_F(DurabilityTest, WhatIsNotDurableIsLostInAnotherMount) {
  restart_with([](LayerRow& row) {
    row.durable = false;
    ++row.mount_id;
  });
  EXPECT_THAT(store_->list().value(), IsEmpty());
  EXPECT_THAT(trees(), IsEmpty());
}

TEST_F(DurabilityTest, WhatIsDurableIsKeptInAnyBoot) {
  restart_with([](LayerRow& row) {
    ASSERT_TRUE(row.durable);
    row.boot_id = "00000000-0000-0000-0000-000000000000";
    ++row.mount_id;
  });
  EXPECT_THAT(store_->list().value(), SizeIs(1));
}

// The root's row may be on the disk when the layers' bytes are not, and keeps nothing that they
// lost.
TEST_F(DurabilityTest, ALinkIntoALostLayerIsMadeAnewWithIt) {
  serve_linked();
  const auto image = pull("/a/linked:v1");
  ASSERT_TRUE(image.ok()) << image.error().message();
  ASSERT_TRUE(store_->create_root("c1", image->id).ok());
  close_with([](LayerRow& row) {
    row.durable = false;
    row.boot_id = "00000000-0000-0000-0000-000000000000";
  });
  const auto fixups = names_in("fixups");
  ASSERT_THAT(fixups, SizeIs(1));
  empty(cat("fixups/", fixups.front(), "/fs/g"));
  open();
  EXPECT_THAT(store_->list().value(), IsEmpty());
  EXPECT_THAT(names_in("fixups"), IsEmpty());
  ASSERT_TRUE(pull("/a/linked:v1").ok());
  EXPECT_EQ(store_->read_image_file(image->id, "/g", 100).value(), "content");
}

// Waits for what another thread is to do.
void wait_until(const std::atomic<bool>& flag) {
  while (!flag) std::this_thread::sleep_for(std::chrono::milliseconds(2));
}

TEST_F(DurabilityTest, ALayerPulledAgainDuringASyncWaitsForTheNext) {
  std::atomic<bool> pulled{false};
  std::atomic<bool> again{false};
  std::atomic<bool> synced_again{false};
  in_sync() = [&] {
    if (again) synced_again = true;
    if (again || store_->list()->empty()) return true;
    wait_until(pulled);
    EXPECT_TRUE(store_->remove(cat(fake_->host(), "/a/b:v1")).ok());
    EXPECT_TRUE(pull().ok());
    again = true;
    return true;
  };
  ASSERT_TRUE(pull().ok());
  pulled = true;
  wait_until(again);
  for (int i = 0; i < 1000 && !synced_again; ++i) {
    std::this_thread::sleep_for(std::chrono::milliseconds(5));
  }
  EXPECT_TRUE(synced_again) << "the second layer passes for synced by a sync that began before it";
}

TEST_F(DurabilityTest, AFailedSyncTakesAllThatWasNotDurable) {
  break_syncs();
  ASSERT_TRUE(pull().ok());
  phase_ = kFailing;
  wait_until_nothing_is_left();
  phase_ = kHealed;
  EXPECT_TRUE(pull().ok());
  EXPECT_THAT(trees(), SizeIs(1));
}

TEST_F(DurabilityTest, AFailedSyncFailsThePullsUnderWay) {
  ImageMaker other;
  other.add_layer({{"etc/", ""}, {"etc/hostname", "other\n"}});
  other.serve(*fake_, "a/other", "v1");
  const auto reference = oci::Reference::parse(cat(fake_->host(), "/a/other:v1")).value();
  break_syncs();
  std::atomic<bool> unpacked{false};
  PullOptions options;
  options.progress = [&](const LayerProgress& progress) {
    if (progress.phase != LayerProgress::Phase::kDone) return;
    unpacked = true;
    while (phase_ == kBefore) std::this_thread::sleep_for(std::chrono::milliseconds(2));
    EXPECT_TRUE(is_noted(true)) << "by a store that waits for this pull";
  };
  std::optional<Result<Image>> under_way;
  std::thread puller([&] { under_way = store_->pull(reference, options); });
  wait_until(unpacked);
  ASSERT_TRUE(pull().ok());
  phase_ = kFailing;
  puller.join();
  ASSERT_FALSE(under_way->ok()) << "what it wrote may be lost, and no sync will tell again";
  EXPECT_EQ(under_way->error().code(), Code::kDataLoss) << under_way->error().message();
  wait_until_nothing_is_left();
  EXPECT_FALSE(is_noted(false));
  phase_ = kHealed;
  EXPECT_TRUE(store_->pull(reference, {}).ok());
  EXPECT_THAT(trees(), SizeIs(1));
}

TEST_F(DurabilityTest, AnImportWhoseSyncFailsLeavesNothing) {
  const std::string archive = folder_->path() + "/archive.tar";
  ASSERT_TRUE(sys::write_file_atomic(sys::kCwd, archive,
                                     testing::make_tar(maker_.docker_files("a/b:v1")), 0600)
                  .ok());
  break_syncs();
  phase_ = kFailing;
  const auto imported = store_->import(archive, {});
  ASSERT_FALSE(imported.ok());
  EXPECT_THAT(store_->list().value(), IsEmpty());
  EXPECT_THAT(trees(), IsEmpty());
  EXPECT_THAT(names_in("aside"), IsEmpty());
  EXPECT_THAT(names_in("blobs/sha256"), IsEmpty());
}

// Killed before it had dealt with it: no sync of the next process would be told of the error.
TEST_F(DurabilityTest, ADiskThatLostWritesIsKnownToTheNextProcess) {
  ASSERT_TRUE(pull().ok());
  close_with([](LayerRow& row) { row.durable = false; });
  const std::string state = folder_->path() + "/state";
  ASSERT_TRUE(sys::make_dirs(state, 0700).ok());
  ASSERT_TRUE(sys::write_file_atomic(sys::kCwd, state + "/image-lost-writes", "", 0600).ok());
  open();
  EXPECT_THAT(store_->list().value(), IsEmpty());
  EXPECT_THAT(trees(), IsEmpty());
  EXPECT_FALSE(is_noted(false));
  EXPECT_TRUE(pull().ok());
}

TEST_F(DurabilityTest, AnErrorOfWritingAheadIsOneOfASync) {
  std::atomic<bool> unpacked{false};
  std::atomic<bool> failed{false};
  in_sync() = [&] { return !unpacked || failed.exchange(true); };
  PullOptions options;
  options.progress = [&](const LayerProgress& progress) {
    if (progress.phase != LayerProgress::Phase::kDone) return;
    unpacked = true;
    EXPECT_TRUE(is_noted(true));
  };
  const auto reference = oci::Reference::parse(cat(fake_->host(), "/a/b:v1")).value();
  const auto pulled = store_->pull(reference, options);
  ASSERT_FALSE(pulled.ok());
  EXPECT_EQ(pulled.error().code(), Code::kDataLoss) << pulled.error().message();
  EXPECT_FALSE(is_noted(false));
  EXPECT_TRUE(store_->pull(reference, {}).ok());
  store_.reset();  // whose thread asks the hook
}

TEST_F(DurabilityTest, ARunningContainerKeepsATreeThatMayHaveLostData) {
  break_syncs();
  const auto image = pull();
  ASSERT_TRUE(image.ok());
  const auto root = store_->create_root("c1", image->id);
  ASSERT_TRUE(root.ok());
  const auto tree = sys::open(root->lower_dirs.front(), O_PATH | O_DIRECTORY).value();
  phase_ = kFailing;
  wait_until_nothing_is_left();
  EXPECT_EQ(sys::read_file(tree, "etc/hostname", 100).value(), "box\n");
  phase_ = kHealed;
  EXPECT_FALSE(is_noted(false));
  store_.reset();
  open();
  ASSERT_TRUE(pull().ok()) << "another one, which it does not stand on";
  ASSERT_TRUE(library_of(*store_).collect_garbage({GcOptions::Mode::kCollect, {}}).ok());
  EXPECT_EQ(sys::read_file(tree, "etc/hostname", 100).value(), "box\n");
  EXPECT_THAT(names_in("aside"), SizeIs(1));
  ASSERT_TRUE(store_->remove_root("c1").ok());
  EXPECT_THAT(names_in("aside"), IsEmpty());
  EXPECT_FALSE(sys::read_file(tree, "etc/hostname", 100).ok());
  EXPECT_EQ(store_->read_image_file(image->id, "/etc/hostname", 100).value(), "box\n");
}

TEST_F(DurabilityTest, ARunningContainerKeepsALinkIntoALostLayer) {
  serve_linked();
  break_syncs();
  const auto image = pull("/a/linked:v1");
  ASSERT_TRUE(image.ok()) << image.error().message();
  ASSERT_TRUE(store_->create_root("c1", image->id).ok());
  const std::string fixup = cat(folder_->path(), "/store/fixups/", names_in("fixups").at(0), "/fs");
  const auto tree = sys::open(fixup, O_PATH | O_DIRECTORY).value();
  phase_ = kFailing;
  wait_until_nothing_is_left();
  EXPECT_FALSE(is_noted(false));
  phase_ = kHealed;
  EXPECT_THAT(names_in("fixups"), IsEmpty());
  EXPECT_EQ(sys::read_file(tree, "g", 100).value(), "content");
  ASSERT_TRUE(store_->remove_root("c1").ok());
  EXPECT_THAT(names_in("aside"), IsEmpty());
  EXPECT_FALSE(sys::read_file(tree, "g", 100).ok());
}

// It may be the creation of a container, whose root is about to name them.
TEST_F(DurabilityTest, WorkUnderWayKeepsLayersThatMayHaveLostData) {
  break_syncs();
  const std::string name = cat(fake_->host(), "/a/b:v1");
  ASSERT_TRUE(store_
                  ->pull(oci::Reference::parse(name).value(),
                         {.purpose = PullOptions::Purpose::kRunAndPush})
                  .ok());
  const auto saved =
      library_of(*store_).save({.images = {name}}, [&](std::string_view) -> Result<> {
        if (phase_ == kBefore) {
          phase_ = kFailing;
          wait_until_nothing_is_left();
          EXPECT_FALSE(is_noted(false));
          EXPECT_THAT(names_in("aside"), SizeIs(1));
          phase_ = kHealed;
        }
        return {};
      });
  EXPECT_TRUE(saved.ok()) << saved.error().message();
  EXPECT_THAT(names_in("aside"), IsEmpty());
}

// As with a kernel that has no ids of mounts: what was not synced when the process died is dropped,
// and a container may have been started on it.
TEST_F(DurabilityTest, AStartTakesNoTreeFromUnderAContainer) {
  const auto image = pull();
  ASSERT_TRUE(image.ok());
  const auto root = store_->create_root("c1", image->id);
  ASSERT_TRUE(root.ok());
  const auto tree = sys::open(root->lower_dirs.front(), O_PATH | O_DIRECTORY).value();
  close_with([](LayerRow& row) {
    row.durable = false;
    row.mount_id = 0;
  });
  open();
  EXPECT_THAT(store_->list().value(), IsEmpty());
  EXPECT_THAT(trees(), IsEmpty());
  const auto collected = library_of(*store_).collect_garbage({GcOptions::Mode::kCollect, {}});
  ASSERT_TRUE(collected.ok()) << collected.error().message();
  const auto& items = collected->items;
  const auto held = std::find_if(items.begin(), items.end(), [](const GcItem& item) {
    return item.name.starts_with("aside/");
  });
  ASSERT_NE(held, items.end());
  EXPECT_FALSE(held->goes);
  EXPECT_THAT(held->holders, ElementsAre("container c1"));
  store_.reset();
  open();
  EXPECT_EQ(sys::read_file(tree, "etc/hostname", 100).value(), "box\n");
  ASSERT_TRUE(store_->remove_root("c1").ok());
  EXPECT_THAT(names_in("aside"), IsEmpty());
  EXPECT_FALSE(sys::read_file(tree, "etc/hostname", 100).ok());
}

TEST_F(DurabilityTest, WhatWasSetAsideGoesWithItsBoot) {
  ASSERT_TRUE(store_->create_root("c1", pull().value().id).ok());
  close_with([](LayerRow& row) {
    row.durable = false;
    row.mount_id = 0;
  });
  open();
  const auto aside = names_in("aside");
  ASSERT_THAT(aside, SizeIs(1));
  store_.reset();
  const std::string folder = folder_->path() + "/store/aside/";
  std::string other = aside.front();
  other.replace(other.find('.') + 1, 8, "00000000");
  ASSERT_EQ(::rename((folder + aside.front()).c_str(), (folder + other).c_str()), 0);
  open();
  EXPECT_THAT(names_in("aside"), IsEmpty());
}

}  // namespace
}  // namespace fluyt::image
