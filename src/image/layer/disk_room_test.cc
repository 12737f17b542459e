#include "image/layer/disk_room.h"

#include <gmock/gmock.h>
#include <sys/mount.h>
#include <sys/stat.h>

#include "image/layer/layer_test.h"

namespace fluyt::image {
namespace {

using testing::HasSubstr;

TEST(DiskRoom, HasABoundAndLooksAtTheDisk) {
  const sys::Fd here = sys::open("/tmp", O_PATH | O_DIRECTORY).value();
  DiskRoom bounded(here, 10'000, 0);
  EXPECT_TRUE(bounded.take(10'000).ok());
  EXPECT_THAT(bounded.take(1).error().message(), HasSubstr("more than 10000 bytes on the disk"));
  const uint64_t free_bytes = free_bytes_of(here).value();
  DiskRoom beside(here, UINT64_MAX, free_bytes * 2);
  EXPECT_EQ(beside.take(1).error().code(), Code::kResourceExhausted);
  EXPECT_TRUE(DiskRoom(here, UINT64_MAX, 1).take(1).ok());
  EXPECT_TRUE(DiskRoom().take(UINT64_MAX).ok());
}

// A small disk: what is free on it is nobody else's.
class SideBySide : public LayerTest {
 protected:
  static constexpr uint64_t kDisk = 128U << 20U;
  static constexpr uint64_t kKept = 64U << 20U;
  void SetUp() override {
    LayerTest::SetUp();
    if (IsSkipped()) return;
    LayerStore::Options options = store_->options();
    store_.reset();
    options.root = dir_.path() + "/disk";
    options.reserve_bytes = kKept;
    ASSERT_TRUE(sys::make_dirs(options.root, 0700).ok());
    if (::mount("tmpfs", options.root.c_str(), "tmpfs", 0, cat("size=", kDisk).c_str()) != 0)
      GTEST_SKIP() << "no tmpfs is to be had";
    mounted_ = options.root;
    store_ = LayerStore::open(options).value();
  }
  void TearDown() override {
    store_.reset();
    if (mounted_.empty()) return;
    EXPECT_EQ(::umount2(mounted_.c_str(), MNT_DETACH), 0);
  }
  uint64_t free_bytes() const {
    return free_bytes_of(sys::open(mounted_, O_PATH | O_DIRECTORY).value()).value();
  }
  std::string mounted_;
};

TEST_F(SideBySide, LayersTogetherLeaveFreeWhatIsKept) {
  constexpr size_t kBytes = 36U << 20U;
  std::vector<LayerWriter> writers;
  for (int i = 0; i < 3; ++i) writers.push_back(LayerWriter::create(*store_, {}).value());
  const std::string head = TarBuild::header({.name = "big"}, kBytes);
  const std::string piece(1U << 20U, 'x');
  std::vector<std::optional<Error>> errors(writers.size());
  const auto write = [&](size_t i, std::string_view bytes) {
    if (errors[i].has_value()) return;
    if (auto written = writers[i].write(bytes); !written.ok())
      errors[i] = std::move(written).error();
  };
  for (size_t i = 0; i < writers.size(); ++i) write(i, head);
  for (size_t at = 0; at < kBytes; at += piece.size()) {
    for (size_t i = 0; i < writers.size(); ++i) write(i, piece);
  }
  size_t refused = 0;
  for (size_t i = 0; i < writers.size(); ++i) {
    write(i, std::string(1024, '\0'));
    if (!errors[i].has_value()) {
      auto info = writers[i].finish();
      if (info.ok()) continue;
      errors[i] = std::move(info).error();
    }
    ++refused;
    EXPECT_EQ(errors[i]->code(), Code::kResourceExhausted);
    EXPECT_THAT(errors[i]->message(), HasSubstr("are to stay so"));
  }
  EXPECT_GE(refused, 1U);
  // Nobody has removed anything yet.
  EXPECT_GE(free_bytes(), kKept - (4U << 20U));
}

}  // namespace
}  // namespace fluyt::image
