#include "image/layer/fixup.h"

#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <atomic>
#include <string>
#include <vector>

#include "base/strings.h"
#include "image/blob/hasher.h"
#include "sys/file.h"

namespace fluyt::image {
namespace {

using testing::HasSubstr;

constexpr size_t kLayers = 60;
constexpr size_t kDepth = 30;

// Layers of one deep file each: next to nothing as blobs, and each is looked at under all above it.
class Fixup : public testing::Test {
 protected:
  void SetUp() override {
    if (geteuid() != 0) GTEST_SKIP() << "needs root: owners";
    std::string path;
    for (size_t i = 0; i < kDepth; ++i) {
      path += cat(path.empty() ? "" : "/", "d");
      info_.implied_dirs.push_back(path);
    }
    for (size_t i = 0; i < kLayers; ++i) {
      layers_.push_back(cat(dir_.path(), "/", i));
      ASSERT_TRUE(sys::make_dirs(cat(layers_.back(), "/", path), 0755).ok());
    }
    own_ = dir_.path() + "/own";
    ASSERT_TRUE(sys::make_dirs(cat(own_, "/", path), 0755).ok());
    ASSERT_TRUE(sys::make_dirs(dir_.path() + "/into", 0755).ok());
    deep_ = path;
  }
  Result<bool> build(LookUps& look_ups) {
    const sys::Fd own = sys::open(own_, O_PATH | O_DIRECTORY).value();
    const sys::Fd into = sys::open(dir_.path() + "/into", O_PATH | O_DIRECTORY).value();
    DiskRoom room;
    return build_fixup(info_, own, layers_, into, look_ups, room);
  }
  // Directories that no layer has: each is asked for in all of them.
  void imply_others(size_t count) {
    for (size_t i = 0; i < count; ++i) info_.implied_dirs.push_back(cat(deep_, "/x", i));
  }

  sys::TempDir dir_ = sys::TempDir::create().value();
  std::vector<std::string> layers_;
  std::string own_;
  std::string deep_;
  LayerInfo info_{.diff_id = digest_of("sha256", "").value(),
                  .blob_digest = digest_of("sha256", "").value()};
};

TEST_F(Fixup, WhatTheTopmostHasIsAskedOfNoOther) {
  LookUps look_ups;
  const auto made = build(look_ups);
  ASSERT_TRUE(made.ok()) << made.error().message();
  EXPECT_FALSE(*made) << "nothing differs";
  EXPECT_GE(look_ups.done, kDepth);
  EXPECT_LE(look_ups.done, 4 * kDepth);
}

TEST_F(Fixup, WhatNoLayerHasIsAskedOnceOfEach) {
  LookUps look_ups;
  imply_others(50);
  const size_t descriptors = sys::list_dir("/proc/self/fd")->size();
  const auto made = build(look_ups);
  ASSERT_TRUE(made.ok()) << made.error().message();
  EXPECT_FALSE(*made);
  EXPECT_LE(look_ups.done, kLayers * (kDepth + 50) * 4);
  EXPECT_EQ(sys::list_dir("/proc/self/fd")->size(), descriptors);
}

TEST_F(Fixup, MoreLookUpsThanAllowedAreRefused) {
  LookUps look_ups{.allowed = 3'000};
  imply_others(50);
  const auto made = build(look_ups);
  ASSERT_FALSE(made.ok());
  EXPECT_EQ(made.error().code(), Code::kResourceExhausted);
  EXPECT_THAT(made.error().message(), HasSubstr("more than the 3000 look-ups"));
}

TEST_F(Fixup, WhoeverIsToldToStopStops) {
  const std::atomic<bool> stop{true};
  LookUps look_ups{.stop = &stop};
  EXPECT_EQ(build(look_ups).error().code(), Code::kCancelled);
  EXPECT_EQ(look_ups.done, 0U);
}

}  // namespace
}  // namespace fluyt::image
