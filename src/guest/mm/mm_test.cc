#include "guest/mm/mm.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/mman.h>

#include <chrono>
#include <functional>
#include <future>
#include <random>
#include <utility>

#include "guest/fs/charged_memory.h"
#include "guest/platform/fake.h"

namespace fluyt::guest {
namespace {

constexpr int kAnonymous = MAP_PRIVATE | MAP_ANONYMOUS;
constexpr int kReadWrite = PROT_READ | PROT_WRITE;

class MmTest : public testing::Test {
 protected:
  MmTest() : platform_([](FakeContext&) { return Event{}; }) {
    mm_ = std::move(Mm::create(platform_)).value();
  }
  uint64_t map(uint64_t at, uint64_t length, int protection = kReadWrite, int flags = kAnonymous) {
    auto made = mm_->map(at, length, protection, flags, nullptr, 0);
    return made.ok() ? made.value() : 0;
  }
  std::string shape() {
    std::string out;
    for (const auto& [start, area] : mm_->areas()) {
      char line[64];
      std::snprintf(line, sizeof line, "%lx-%lx %d ", start, area.end, area.protection);
      out += line;
    }
    return out;
  }
  FakePlatform platform_;
  std::shared_ptr<Mm> mm_;
};

TEST_F(MmTest, NeighboursOfOneKindAreOneArea) {
  map(0x100000, 0x2000, kReadWrite, kAnonymous | MAP_FIXED);
  map(0x102000, 0x1000, kReadWrite, kAnonymous | MAP_FIXED);
  EXPECT_EQ(shape(), "100000-103000 3 ");
  map(0x103000, 0x1000, PROT_READ, kAnonymous | MAP_FIXED);
  EXPECT_EQ(shape(), "100000-103000 3 103000-104000 1 ");
}

TEST_F(MmTest, ProtectionSplitsAndJoins) {
  map(0x100000, 0x3000, kReadWrite, kAnonymous | MAP_FIXED);
  ASSERT_TRUE(mm_->protect(0x101000, 0x1000, PROT_NONE).ok());
  EXPECT_EQ(shape(), "100000-101000 3 101000-102000 0 102000-103000 3 ");
  ASSERT_TRUE(mm_->protect(0x101000, 0x1000, kReadWrite).ok());
  EXPECT_EQ(shape(), "100000-103000 3 ");
  EXPECT_EQ(mm_->protect(0x102000, 0x2000, PROT_READ).value(), ENOMEM);
  EXPECT_EQ(mm_->protect(0x102001, 0x1000, PROT_READ).value(), EINVAL);
}

TEST_F(MmTest, UnmapCutsHoles) {
  map(0x100000, 0x3000, kReadWrite, kAnonymous | MAP_FIXED);
  ASSERT_TRUE(mm_->unmap(0x101000, 0x1000).ok());
  EXPECT_EQ(shape(), "100000-101000 3 102000-103000 3 ");
  EXPECT_EQ(mm_->unmap(0x100001, 0x1000).value(), EINVAL);
  EXPECT_EQ(mm_->unmap(0x100000, 0).value(), EINVAL);
  EXPECT_TRUE(mm_->unmap(0, kGuestTop).ok());
  EXPECT_EQ(shape(), "");
}

/// A mapped file whose end does something.
class Ending final : public File {
 public:
  Ending(FilePtr of, std::function<void()> at_end)
      : File(nullptr, of->inode(), O_RDWR), of_(std::move(of)), at_end_(std::move(at_end)) {}
  ~Ending() override { at_end_(); }
  ErrnoOr<int> host_descriptor() override { return of_->host_descriptor(); }

 private:
  FilePtr of_;
  std::function<void()> at_end_;
};

TEST_F(MmTest, WhatItsFilesEndDoMayLookAtTheAreas) {
  int ends = 0;
  const auto map_one = [&] {
    FilePtr memory = make_shared_memory(kPageSize, {}).value();
    const auto file = std::make_shared<Ending>(std::move(memory), [&] {
      // Who has the lock has to let it go for that.
      ++ends;
      EXPECT_EQ(
          std::async(std::launch::async, [&] { return mm_->mapped_bytes(); }).get() % kPageSize,
          0U);
    });
    EXPECT_TRUE(mm_->map(0x100000, kPageSize, kReadWrite, MAP_SHARED | MAP_FIXED, file, 0).ok());
  };
  map_one();
  EXPECT_TRUE(mm_->unmap(0x100000, kPageSize).ok());
  EXPECT_EQ(ends, 1);
  map_one();
  map(0x100000, kPageSize, kReadWrite, kAnonymous | MAP_FIXED);
  EXPECT_EQ(ends, 2);
}

TEST_F(MmTest, WhatKeepsPageTablesIsNoMappingOfTheGuests) {
  constexpr uint64_t kBase = 0x7ff000000000;
  mm_->set_map_base(kBase);
  ASSERT_TRUE(mm_->keep_page_tables().ok());
  EXPECT_EQ(shape(), "");
  EXPECT_EQ(mm_->check_mapped(kBase, kPageSize).value(), ENOMEM);
  std::byte byte{};
  EXPECT_EQ(mm_->space().read(kBase, {&byte, 1}), 0U);
  EXPECT_EQ(map(0, 0x1000), kBase - 0x1000);
  // Whoever wants that very page gets it.
  EXPECT_EQ(map(kBase, 0x1000, kReadWrite, kAnonymous | MAP_FIXED_NOREPLACE), kBase);
  EXPECT_EQ(mm_->space().read(kBase, {&byte, 1}), 1U);
  // And what is there stays.
  mm_->set_map_base(kBase);
  ASSERT_TRUE(mm_->keep_page_tables().ok());
  EXPECT_EQ(mm_->space().read(kBase, {&byte, 1}), 1U);
}

TEST_F(MmTest, MapAnswersAsLinuxDoes) {
  const auto error = [&](uint64_t at, uint64_t length, int flags, uint64_t offset = 0) {
    return mm_->map(at, length, kReadWrite, flags, nullptr, offset).error().value();
  };
  EXPECT_EQ(error(0, 0, kAnonymous), EINVAL);
  EXPECT_EQ(error(0, 4096, MAP_ANONYMOUS), EINVAL);
  EXPECT_EQ(error(0, 4096, kAnonymous, 5), EINVAL);
  EXPECT_EQ(error(0x1001, 4096, kAnonymous | MAP_FIXED), EINVAL);
  EXPECT_EQ(error(0x1000, 4096, kAnonymous | MAP_FIXED), EPERM);
  EXPECT_EQ(error(kGuestTop, 4096, kAnonymous | MAP_FIXED), ENOMEM);
  EXPECT_EQ(error(0, ~uint64_t{0} - 5000, kAnonymous), ENOMEM);
  EXPECT_EQ(error(0, 4096, MAP_PRIVATE), EBADF);
  map(0x100000, 0x1000, kReadWrite, kAnonymous | MAP_FIXED);
  EXPECT_EQ(error(0x100000, 4096, kAnonymous | 0x100000), EEXIST);
}

TEST_F(MmTest, AHintIsTakenWhenItIsFree) {
  EXPECT_EQ(map(0x500000, 0x1000), 0x500000U);
  EXPECT_NE(map(0x500000, 0x1000), 0x500000U);
}

TEST_F(MmTest, TheBreakGrowsAndShrinksAndStopsAtANeighbour) {
  mm_->start_break(0x600000);
  EXPECT_EQ(mm_->set_break(0), 0x600000U);
  EXPECT_EQ(mm_->set_break(0x602345), 0x602345U);
  EXPECT_EQ(shape(), "600000-603000 3 ");
  EXPECT_EQ(mm_->set_break(0x600800), 0x600800U);
  EXPECT_EQ(shape(), "600000-601000 3 ");
  map(0x610000, 0x1000, PROT_READ, kAnonymous | MAP_FIXED);
  EXPECT_EQ(mm_->set_break(0x620000), 0x600800U);
}

TEST_F(MmTest, RemapGrowsInPlaceMovesOrSaysNo) {
  const uint64_t at = map(0x700000, 0x2000, kReadWrite, kAnonymous | MAP_FIXED);
  EXPECT_EQ(mm_->remap(at, 0x2000, 0x4000, 0, 0).value(), at);
  map(at + 0x4000, 0x1000, PROT_READ, kAnonymous | MAP_FIXED);
  EXPECT_EQ(mm_->remap(at, 0x4000, 0x6000, 0, 0).error().value(), ENOMEM);
  const uint64_t moved = mm_->remap(at, 0x4000, 0x6000, 1, 0).value();
  EXPECT_NE(moved, at);
  EXPECT_TRUE(mm_->check_mapped(moved, 0x6000).ok());
  EXPECT_FALSE(mm_->check_mapped(at, 0x1000).ok());
  EXPECT_EQ(mm_->remap(moved, 0x6000, 0x1000, 0, 0).value(), moved);
  EXPECT_FALSE(mm_->check_mapped(moved, 0x2000).ok());
  EXPECT_EQ(mm_->remap(0x123000, 0x1000, 0x2000, 1, 0).error().value(), EFAULT);
}

TEST_F(MmTest, AForkHasTheSameMap) {
  map(0x100000, 0x2000, kReadWrite, kAnonymous | MAP_FIXED);
  auto forked = mm_->fork({});
  ASSERT_TRUE(forked.ok());
  EXPECT_TRUE(mm_->unmap(0x100000, 0x1000).ok());
  EXPECT_TRUE(forked->first->check_mapped(0x100000, 0x2000).ok());
}

// The map and the platform's memory say the same after any sequence of changes.
TEST_F(MmTest, TheMapAndTheMemoryAgree) {
  std::mt19937 random(7);
  constexpr uint64_t kBase = 0x1000000;
  constexpr uint64_t kPages = 32;
  for (int step = 0; step < 4000; ++step) {
    const uint64_t at = kBase + random() % kPages * kPageSize;
    const uint64_t length = (1 + random() % 6) * kPageSize;
    const int protection = std::array{PROT_NONE, PROT_READ, kReadWrite}[random() % 3];
    switch (random() % 4) {
      case 0:
        map(at, length, protection, kAnonymous | MAP_FIXED);
        break;
      case 1:
        mm_->unmap(at, length).ignore("any outcome");
        break;
      case 2:
        mm_->protect(at, length, protection).ignore("any outcome");
        break;
      default:
        (void)mm_->remap(at, length, (1 + random() % 6) * kPageSize, random() % 2 ? 1 : 0, 0).ok();
    }
    const auto areas = mm_->areas();
    for (uint64_t page = kBase; page < kBase + (kPages + 8) * kPageSize; page += kPageSize) {
      auto area = areas.upper_bound(page);
      int expected = -1;
      if (area != areas.begin() && std::prev(area)->second.end > page)
        expected = std::prev(area)->second.protection;
      std::byte byte{};
      const bool readable = mm_->space().read(page, std::span(&byte, 1)) == 1;
      const bool writable = mm_->space().write(page, std::span(&byte, 1)) == 1;
      ASSERT_EQ(readable, expected > 0 && (expected & PROT_READ) != 0) << step << std::hex << page;
      ASSERT_EQ(writable, expected > 0 && (expected & PROT_WRITE) != 0) << step << std::hex << page;
    }
  }
}

/// One whose changes take as long as somebody keeps the stub halted.
class HaltedSpace final : public AddressSpace {
 public:
  Errno map(const Mapping&) override { return stand_still(); }
  Errno unmap(uint64_t, uint64_t) override { return stand_still(); }
  Errno protect(uint64_t, uint64_t, int) override { return stand_still(); }
  Errno move(uint64_t, uint64_t, uint64_t, uint64_t) override { return stand_still(); }
  Errno advise(uint64_t, uint64_t, int) override { return stand_still(); }
  size_t read(uint64_t, std::span<std::byte>) override { return 0; }
  size_t write(uint64_t, std::span<const std::byte>) override { return 0; }
  ErrnoOr<std::unique_ptr<Context>> create_context(const ThreadImage&) override {
    return Errno(ENOMEM);
  }
  ErrnoOr<Forked> fork(const ThreadImage&) override {
    GUEST_TRY(stand_still());
    return Errno(ENOMEM);
  }
  void kill() override {}

  /// From the next change on; the future is ready when one is within.
  std::future<void> halt() {
    within_ = std::promise<void>();
    on_ = std::promise<void>();
    halted_ = true;
    return within_.get_future();
  }
  void resume() { on_.set_value(); }

 private:
  Errno stand_still() {
    if (!std::exchange(halted_, false)) return kOk;
    within_.set_value();
    on_.get_future().wait();
    return kOk;
  }
  bool halted_ = false;
  std::promise<void> within_;
  std::promise<void> on_;
};

TEST(Mm, WhoOnlyLooksDoesNotWaitForAHaltedStub) {
  auto own = std::make_unique<HaltedSpace>();
  HaltedSpace& space = *own;
  Mm mm(std::move(own));
  constexpr uint64_t kAt = 0x100000;
  constexpr uint64_t kLength = 4 * kPageSize;
  ASSERT_TRUE(mm.map(kAt, kLength, kReadWrite, kAnonymous | MAP_FIXED, nullptr, 0).ok());
  mm.start_break(kAt + (uint64_t{1} << 20));
  const std::function<void()> changes[] = {
      [&] { (void)mm.map(kAt, kPageSize, PROT_READ, kAnonymous | MAP_FIXED, nullptr, 0).ok(); },
      [&] { (void)mm.protect(kAt + kPageSize, kPageSize, PROT_NONE).ok(); },
      [&] { (void)mm.advise(kAt, kLength, MADV_DONTNEED).ok(); },
      [&] {
        (void)mm.remap(kAt + 2 * kPageSize, 2 * kPageSize, kPageSize, MREMAP_MAYMOVE, 0).ok();
      },
      [&] { (void)mm.set_break(kAt + (uint64_t{2} << 20)); },
      [&] { (void)mm.fork({}).ok(); },
      [&] { (void)mm.unmap(kAt, kLength).ok(); },
  };
  for (const auto& change : changes) {
    const std::future<void> within = space.halt();
    const std::future<void> changing = std::async(std::launch::async, change);
    ASSERT_EQ(within.wait_for(std::chrono::seconds(20)), std::future_status::ready);
    std::future<void> looking = std::async(std::launch::async, [&] {
      EXPECT_FALSE(mm.areas().empty());
      EXPECT_EQ(mm.sizes().mapped, mm.mapped_bytes());
      EXPECT_GT(mm.data_bytes(), 0U);
      EXPECT_TRUE(mm.check_mapped(kAt, kPageSize).ok());
      EXPECT_EQ(mm.place_of(kAt).offset, kAt);
      EXPECT_TRUE(mm.shared_files(kAt, kAt + kLength).empty());
    });
    const bool has_looked = looking.wait_for(std::chrono::seconds(20)) == std::future_status::ready;
    space.resume();
    EXPECT_TRUE(has_looked);
    looking.wait();
    changing.wait();
  }
  EXPECT_EQ(mm.check_mapped(kAt, kPageSize).value(), ENOMEM);
}

}  // namespace
}  // namespace fluyt::guest
