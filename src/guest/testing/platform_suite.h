#pragma once

#include <gtest/gtest.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cstring>
#include <memory>
#include <string>
#include <vector>

#include "guest/platform/platform.h"

/// What every platform must do with memory. `PlatformMemory<Maker>` is instantiated by the tests of
/// each; Maker::make() gives a platform, or nothing and a reason.
namespace fluyt::guest {

template <class Maker>
class PlatformMemory : public testing::Test {
 protected:
  static constexpr uint64_t kAt = 0x700000;
  static constexpr int kReadWrite = PROT_READ | PROT_WRITE;

  void SetUp() override {
    std::string missing;
    platform_ = Maker::make(missing);
    if (!platform_) GTEST_SKIP() << missing;
    auto made = platform_->create_address_space();
    ASSERT_TRUE(made.ok());
    memory_ = std::move(made).value();
  }
  void TearDown() override {
    memory_.reset();
    platform_.reset();
  }
  size_t put(AddressSpace& memory, uint64_t address, const std::string& text) {
    return memory.write(address, std::as_bytes(std::span(text)));
  }
  std::string take(AddressSpace& memory, uint64_t address, size_t length) {
    std::string out(length, '?');
    out.resize(memory.read(address, std::as_writable_bytes(std::span(out))));
    return out;
  }
  Errno map(uint64_t address, uint64_t length, int protection = kReadWrite) {
    return memory_->map({.address = address, .length = length, .protection = protection});
  }

  std::unique_ptr<Platform> platform_;
  std::unique_ptr<AddressSpace> memory_;
};

TYPED_TEST_SUITE_P(PlatformMemory);

TYPED_TEST_P(PlatformMemory, FreshMemoryIsZero) {
  ASSERT_TRUE(this->map(this->kAt, 8192).ok());
  EXPECT_EQ(this->take(*this->memory_, this->kAt, 4), std::string(4, 0));
  EXPECT_EQ(this->put(*this->memory_, this->kAt + 4094, "abcd"), 4U);
  EXPECT_EQ(this->take(*this->memory_, this->kAt + 4094, 4), "abcd");
}

TYPED_TEST_P(PlatformMemory, CopiesGoAsFarAsTheMapping) {
  ASSERT_TRUE(this->map(this->kAt, 4096).ok());
  EXPECT_EQ(this->put(*this->memory_, this->kAt + 4090, "0123456789"), 6U);
  EXPECT_EQ(this->take(*this->memory_, this->kAt + 4090, 10), "012345");
  EXPECT_EQ(this->take(*this->memory_, this->kAt - 4096, 1), "");
  EXPECT_EQ(this->take(*this->memory_, kGuestTop, 1), "");
  EXPECT_EQ(this->take(*this->memory_, ~uint64_t{0} - 1, 8), "");
}

TYPED_TEST_P(PlatformMemory, ProtectionsHoldForCopiesToo) {
  ASSERT_TRUE(this->map(this->kAt, 4096).ok());
  ASSERT_EQ(this->put(*this->memory_, this->kAt, "text"), 4U);
  ASSERT_TRUE(this->memory_->protect(this->kAt, 4096, PROT_READ).ok());
  EXPECT_EQ(this->put(*this->memory_, this->kAt, "more"), 0U);
  EXPECT_EQ(this->take(*this->memory_, this->kAt, 4), "text");
  ASSERT_TRUE(this->memory_->protect(this->kAt, 4096, PROT_NONE).ok());
  EXPECT_EQ(this->take(*this->memory_, this->kAt, 4), "");
  EXPECT_FALSE(this->memory_->protect(this->kAt + 4096, 4096, PROT_READ).ok());
}

TYPED_TEST_P(PlatformMemory, ANewMappingTakesThePlaceOfAnOldOne) {
  ASSERT_TRUE(this->map(this->kAt, 4096).ok());
  this->put(*this->memory_, this->kAt, "old");
  ASSERT_TRUE(this->map(this->kAt, 4096).ok());
  EXPECT_EQ(this->take(*this->memory_, this->kAt, 3), std::string(3, 0));
  ASSERT_TRUE(this->memory_->unmap(this->kAt, 4096).ok());
  EXPECT_EQ(this->take(*this->memory_, this->kAt, 3), "");
}

TYPED_TEST_P(PlatformMemory, MemoryMovesAndGrows) {
  ASSERT_TRUE(this->map(this->kAt, 8192).ok());
  this->put(*this->memory_, this->kAt + 4096, "kept");
  const uint64_t to = this->kAt + 0x100000;
  ASSERT_TRUE(this->memory_->move(this->kAt, 8192, to, 12288).ok());
  EXPECT_EQ(this->take(*this->memory_, to + 4096, 4), "kept");
  EXPECT_EQ(this->take(*this->memory_, to + 8192, 1), std::string(1, 0));
  EXPECT_EQ(this->take(*this->memory_, this->kAt, 1), "");
}

TYPED_TEST_P(PlatformMemory, ForksShareWhatIsSharedAlone) {
  const int fd = memfd_create("suite", 0);
  ASSERT_GE(fd, 0);
  ASSERT_EQ(ftruncate(fd, 4096), 0);
  ASSERT_TRUE(this->map(this->kAt, 4096).ok());
  const uint64_t shared = this->kAt + 0x10000;
  ASSERT_TRUE(this->memory_
                  ->map({.address = shared,
                         .length = 4096,
                         .protection = this->kReadWrite,
                         .backing = Backing::kSharedFile,
                         .host_fd = fd})
                  .ok());
  this->put(*this->memory_, this->kAt, "one");
  auto forked = this->memory_->fork(ThreadImage{});
  ASSERT_TRUE(forked.ok());
  this->put(*this->memory_, this->kAt, "two");
  this->put(*this->memory_, shared, "all");
  EXPECT_EQ(this->take(*forked->memory, this->kAt, 3), "one");
  EXPECT_EQ(this->take(*forked->memory, shared, 3), "all");
  this->put(*forked->memory, this->kAt, "six");
  EXPECT_EQ(this->take(*this->memory_, this->kAt, 3), "two");
  close(fd);
}

TYPED_TEST_P(PlatformMemory, NothingLiesOutsideTheGuestsRange) {
  for (uint64_t address : {uint64_t{0}, kGuestBottom - 4096, kGuestTop, ~uint64_t{4095}}) {
    EXPECT_FALSE(this->map(address, 4096).ok());
    EXPECT_FALSE(this->memory_->unmap(address, 4096).ok());
  }
  EXPECT_FALSE(this->map(kGuestTop - 4096, 8192).ok());
}

REGISTER_TYPED_TEST_SUITE_P(PlatformMemory, FreshMemoryIsZero, CopiesGoAsFarAsTheMapping,
                            ProtectionsHoldForCopiesToo, ANewMappingTakesThePlaceOfAnOldOne,
                            MemoryMovesAndGrows, ForksShareWhatIsSharedAlone,
                            NothingLiesOutsideTheGuestsRange);

}  // namespace fluyt::guest
