// Many who want the same at the same time, and some who want it gone.

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <atomic>
#include <chrono>
#include <csignal>
#include <memory>
#include <set>
#include <thread>

#include "base/strings.h"
#include "base/time.h"
#include "image/image_store.h"
#include "image/testing/fake_registry.h"
#include "image/testing/image_maker.h"
#include "image/testing/settled.h"
#include "sys/file.h"

namespace fluyt::image {
namespace {

using testing::FakeRegistry;
using testing::ImageMaker;
using ::testing::IsEmpty;
using testing::sha256_of;
using ::testing::SizeIs;
using Reply = FakeRegistry::Reply;

class PullsAtOnce : public ::testing::Test {
 protected:
  void SetUp() override {
    signal(SIGPIPE, SIG_IGN);
    folder_ = std::make_unique<sys::TempDir>(sys::TempDir::create().value());
    fake_ = FakeRegistry::start().value();
    const std::string self = sys::read_link(sys::kCwd, "/proc/self/exe").value();
    options_ = {.root = folder_->path() + "/store",
                .certs_dir = folder_->path() + "/certs",
                .unpack_program = self.substr(0, self.rfind("/test/")) + "/bin/fluyt-unpack"};
    store_ = ImageStore::open(options_, logger_).value();
  }
  void set_max_fetches(size_t count) {
    store_.reset();
    options_.max_fetches = count;
    store_ = ImageStore::open(options_, logger_).value();
  }
  std::string name(const std::string& tag) const { return cat(fake_->host(), "/", tag); }
  Result<Image> pull(const std::string& tag, const PullOptions& options = {}) {
    return store_->pull(oci::Reference::parse(name(tag)).value(), options);
  }
  // Of all repositories.
  size_t fetches(const std::string& layer) const {
    size_t out = 0;
    for (const std::string& request : fake_->requests()) {
      if (request.starts_with("GET ") && request.ends_with("/blobs/" + sha256_of(layer))) ++out;
    }
    return out;
  }
  void expect_nothing_left() {
    EXPECT_THAT(store_->list().value(), IsEmpty());
    for (const char* folder : {"layers", "staging", "trash", "fixups", "blobs/sha256"}) {
      EXPECT_THAT(testing::settled_names(cat(folder_->path(), "/store/", folder)), IsEmpty())
          << folder;
    }
  }
  // Layers of which the first is the same for every `top`.
  static ImageMaker image(const std::string& top) {
    ImageMaker out;
    out.add_layer({{"etc/", ""}, {"etc/passwd", "root:x:0:0::/:/bin/sh\n"}});
    out.add_layer({{"etc/", ""}, {"etc/hostname", top}});
    return out;
  }
  void expect_whole(const std::string& id, const std::string& top) {
    EXPECT_EQ(store_->read_image_file(id, "/etc/hostname", 100).value().value_or(""), top);
    EXPECT_EQ(store_->read_image_file(id, "/etc/passwd", 100).value().value_or(""),
              "root:x:0:0::/:/bin/sh\n");
  }

  StoreOptions options_;
  NullLogger logger_;
  std::unique_ptr<sys::TempDir> folder_;
  std::unique_ptr<FakeRegistry> fake_;
  std::unique_ptr<ImageStore> store_;
};

TEST_F(PullsAtOnce, TwoTagsOfOneDigestCostOneFetch) {
  const ImageMaker maker = image("box");
  maker.serve(*fake_, "a/b", "v1");
  maker.serve(*fake_, "a/b", "v2");
  std::atomic<int> good{0};
  std::vector<std::thread> threads;
  for (int i = 0; i < 6; ++i) {
    threads.emplace_back([&, i] { good += pull(i % 2 == 0 ? "a/b:v1" : "a/b:v2").ok() ? 1 : 0; });
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(good, 6);
  const auto images = store_->list().value();
  ASSERT_THAT(images, SizeIs(1));
  EXPECT_THAT(images[0].repo_tags, SizeIs(2));
  for (const std::string& layer : maker.layers()) EXPECT_EQ(fetches(layer), 1U);
}

TEST_F(PullsAtOnce, OneOfTwoCallersMayLeave) {
  const ImageMaker maker = image("box");
  maker.serve(*fake_, "a/b", "v1");
  std::atomic<bool> fetching{false};
  fake_->set_hook([&](const FakeRegistry::Request& request) -> std::optional<Reply> {
    if (!request.target.ends_with(sha256_of(maker.layers()[1]))) return std::nullopt;
    fetching = true;
    std::this_thread::sleep_for(std::chrono::seconds(1));
    return std::nullopt;
  });
  std::atomic<bool> cancelled{false};
  std::optional<Result<Image>> left;
  std::optional<Result<Image>> stayed;
  std::thread first([&] {
    PullOptions options;
    options.is_given_up = [&] { return cancelled.load(); };
    left = pull("a/b:v1", options);
  });
  while (!fetching) std::this_thread::sleep_for(std::chrono::milliseconds(2));
  std::atomic<bool> is_done{false};
  std::thread second([&] {
    stayed = pull("a/b:v1");
    is_done = true;
  });
  std::this_thread::sleep_for(std::chrono::milliseconds(200));
  cancelled = true;
  first.join();
  EXPECT_FALSE(is_done) << "who leaves does not wait for the other";
  second.join();
  ASSERT_FALSE(left->ok());
  EXPECT_EQ(left->error().code(), Code::kCancelled);
  ASSERT_TRUE(stayed->ok()) << stayed->error().message();
  EXPECT_EQ(fetches(maker.layers()[1]), 1U);
  expect_whole((*stayed)->id, "box");
}

// Each layer is an unpacker with its memory and its processor.
TEST_F(PullsAtOnce, FetchNoMoreLayersTogetherThanTheNodeMay) {
  constexpr size_t kPulls = 3;
  constexpr size_t kMost = 2;
  set_max_fetches(kMost);
  std::atomic<size_t> under_way{0};
  std::atomic<size_t> most{0};
  std::set<std::string> configs;
  for (size_t i = 0; i < kPulls; ++i) {
    ImageMaker maker;
    for (int layer = 0; layer < 5; ++layer) {
      maker.add_layer({{"etc/", ""}, {cat("etc/", i, "-", layer), "x"}});
    }
    maker.serve(*fake_, cat("a/", i), "v1");
    configs.insert(maker.image_id());
  }
  fake_->set_hook([&](const FakeRegistry::Request& request) -> std::optional<Reply> {
    const std::string name = request.target.substr(request.target.rfind('/') + 1);
    if (request.target.find("/blobs/") == std::string::npos || configs.contains(name)) {
      return std::nullopt;
    }
    const size_t now = ++under_way;
    size_t known = most;
    while (now > known && !most.compare_exchange_weak(known, now)) {
    }
    std::this_thread::sleep_for(std::chrono::milliseconds(30));  // so that too many would meet
    --under_way;
    return std::nullopt;
  });
  std::atomic<size_t> good{0};
  std::vector<std::thread> threads;
  for (size_t i = 0; i < kPulls; ++i) {
    threads.emplace_back([&, i] { good += pull(cat("a/", i, ":v1")).ok() ? 1 : 0; });
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(good, kPulls);
  EXPECT_LE(most, kMost + kPulls) << "one of each, and of further ones what the node may";
}

TEST_F(PullsAtOnce, OneHasAFetchWhateverTheOthersHave) {
  set_max_fetches(1);
  const ImageMaker slow = image("slow");
  slow.serve(*fake_, "a/slow", "v1");
  ImageMaker quick;
  quick.add_layer({{"etc/", ""}, {"etc/quick", "x"}});
  quick.serve(*fake_, "a/quick", "v1");
  std::atomic<bool> fetching{false};
  std::atomic<bool> may_end{false};
  fake_->set_hook([&](const FakeRegistry::Request& request) -> std::optional<Reply> {
    if (!request.target.starts_with("/v2/a/slow/blobs/")) return std::nullopt;
    if (request.target.ends_with(slow.image_id())) return std::nullopt;
    fetching = true;
    while (!may_end) std::this_thread::sleep_for(std::chrono::milliseconds(2));
    return std::nullopt;
  });
  std::thread first([&] { EXPECT_TRUE(pull("a/slow:v1").ok()); });
  while (!fetching) std::this_thread::sleep_for(std::chrono::milliseconds(2));
  EXPECT_TRUE(pull("a/quick:v1").ok());
  may_end = true;
  first.join();
}

TEST_F(PullsAtOnce, RemovalsInBetweenLeaveItWholeOrGone) {
  const ImageMaker maker = image("box");
  maker.serve(*fake_, "a/b", "v1");
  std::atomic<bool> done{false};
  std::thread remover([&] {
    while (!done) EXPECT_TRUE(store_->remove(maker.image_id()).ok());
  });
  for (int i = 0; i < 20; ++i) {
    const auto got = pull("a/b:v1");
    // Removed before the answer: said so, and nothing worse.
    if (!got.ok()) {
      EXPECT_EQ(got.error().code(), Code::kAborted) << got.error().message();
    }
  }
  done = true;
  remover.join();
  const auto got = pull("a/b:v1");
  ASSERT_TRUE(got.ok()) << got.error().message();
  expect_whole(got->id, "box");
  EXPECT_TRUE(store_->remove(got->id).ok());
  expect_nothing_left();
}

TEST_F(PullsAtOnce, CollectingOneImageLeavesTheSharedLayerOfAnother) {
  const ImageMaker one = image("one");
  const ImageMaker two = image("two");
  one.serve(*fake_, "a/one", "v1");
  two.serve(*fake_, "a/two", "v1");
  std::atomic<bool> done{false};
  std::thread other([&] {
    while (!done) {
      EXPECT_TRUE(pull("a/one:v1").ok());
      EXPECT_TRUE(store_->remove(one.image_id()).ok());
    }
  });
  for (int i = 0; i < 20; ++i) {
    const auto got = pull("a/two:v1");
    ASSERT_TRUE(got.ok()) << got.error().message();
    expect_whole(got->id, "two");
    EXPECT_TRUE(store_->remove(got->id).ok());
  }
  done = true;
  other.join();
  expect_nothing_left();
}

}  // namespace
}  // namespace fluyt::image
