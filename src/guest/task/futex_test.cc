#include "guest/task/futex.h"

#include <gtest/gtest.h>

#include <chrono>
#include <cstring>
#include <future>
#include <memory>
#include <thread>

namespace fluyt::guest {
namespace {

constexpr uint64_t kWord = 0x10000;
constexpr uint64_t kOther = 0x20000;
constexpr std::chrono::seconds kLong{20};

/// Two words, of which reading or writing the first may take as long as the test likes.
class SlowSpace final : public AddressSpace {
 public:
  Errno map(const Mapping&) override { return kOk; }
  Errno unmap(uint64_t, uint64_t) override { return kOk; }
  Errno protect(uint64_t, uint64_t, int) override { return kOk; }
  Errno move(uint64_t, uint64_t, uint64_t, uint64_t) override { return kOk; }
  Errno advise(uint64_t, uint64_t, int) override { return kOk; }
  size_t read(uint64_t address, std::span<std::byte> to) override {
    stay(address, is_slow_to_read);
    std::lock_guard lock(mutex_);
    std::memcpy(to.data(), at(address), to.size());
    return to.size();
  }
  size_t write(uint64_t address, std::span<const std::byte> from) override {
    stay(address, is_slow_to_write);
    std::lock_guard lock(mutex_);
    std::memcpy(at(address), from.data(), from.size());
    return from.size();
  }
  ErrnoOr<std::unique_ptr<Context>> create_context(const ThreadImage&) override {
    return Errno(ENOSYS);
  }
  ErrnoOr<Forked> fork(const ThreadImage&) override { return Errno(ENOSYS); }
  void kill() override {}

  std::atomic<bool> is_slow_to_read{false};
  std::atomic<bool> is_slow_to_write{false};
  std::promise<void> begun;  // by who takes long
  std::promise<void> over;

 private:
  void stay(uint64_t address, std::atomic<bool>& slow) {
    if (address / 4 * 4 != kWord || !slow.exchange(false)) return;
    begun.set_value();
    over.get_future().wait();
  }
  std::byte* at(uint64_t address) {
    return reinterpret_cast<std::byte*>(address < kOther ? &word_ : &other_) + address % 4;
  }
  std::mutex mutex_;
  uint32_t word_ = 0;
  uint32_t other_ = 0;
};

class FutexTest : public testing::Test {
 protected:
  struct Space {
    std::unique_ptr<SlowSpace> made = std::make_unique<SlowSpace>();
    SlowSpace& slow = *made;
    Mm mm{std::move(made)};
    Mm::SharedPlace place(uint64_t address) { return Futexes::private_place(mm, address); }
    void put(uint64_t address, uint32_t value) {
      slow.write(address, std::as_bytes(std::span(&value, 1)));
    }
    uint32_t get(uint64_t address) {
      uint32_t value = 0;
      slow.read(address, std::as_writable_bytes(std::span(&value, 1)));
      return value;
    }
  };
  /// Whether the calls of another process come back by themselves.
  bool serves(Space& whom) {
    auto calls = std::async(std::launch::async, [&] {
      EXPECT_EQ(futexes_.wake(whom.place(kWord), 1, ~0U).value(), 0);
      Sleeper sleeper;
      EXPECT_EQ(futexes_.wait(whom.mm, whom.place(kWord), kWord, 1, ~0U, sleeper, {}).value(),
                EAGAIN);
      const Futexes::Lock lock{whom.mm, whom.place(kOther), kOther, 5, 5};
      EXPECT_TRUE(futexes_.lock(lock, Futexes::Way::kWait, nobody, sleeper, {}).ok());
      EXPECT_TRUE(futexes_.unlock(lock).ok());
      futexes_.leave_locks(5);
    });
    const bool done = calls.wait_for(kLong) == std::future_status::ready;
    if (!done) slow_.slow.over.set_value();
    return done;
  }
  static int32_t nobody(int32_t) { return 0; }

  Futexes futexes_;
  Space slow_;
  Space other_;
};

TEST_F(FutexTest, MemoryThatIsLongInComingKeepsNoOtherWordWaiting) {
  slow_.slow.is_slow_to_read = true;
  auto waiting = std::async(std::launch::async, [&] {
    Sleeper sleeper;
    return futexes_.wait(slow_.mm, slow_.place(kWord), kWord, 1, ~0U, sleeper, {});
  });
  slow_.slow.begun.get_future().wait();
  ASSERT_TRUE(serves(other_));
  slow_.slow.over.set_value();
  EXPECT_EQ(waiting.get().value(), EAGAIN);
}

TEST_F(FutexTest, NorDoesMemoryThatIsLongInBeingWritten) {
  constexpr uint32_t kAddOne = 1U << 28 | 1U << 12;
  slow_.slow.is_slow_to_write = true;
  auto adding = std::async(std::launch::async, [&] {
    return futexes_.wake_op(slow_.mm, slow_.place(kOther), 1, slow_.place(kWord), kWord, 1, kAddOne)
        .value();
  });
  slow_.slow.begun.get_future().wait();
  ASSERT_TRUE(serves(other_));
  slow_.slow.over.set_value();
  EXPECT_EQ(adding.get(), 0);
  EXPECT_EQ(slow_.get(kWord), 1U);
}

TEST_F(FutexTest, NorDoesALockThatIsHandedOver) {
  slow_.put(kWord, 7);
  const Futexes::Lock of_seven{slow_.mm, slow_.place(kWord), kWord, 7, 7};
  auto waiting = std::async(std::launch::async, [&] {
    Sleeper sleeper;
    const Futexes::Lock of_eight{slow_.mm, slow_.place(kWord), kWord, 8, 8};
    return futexes_.lock(of_eight, Futexes::Way::kWait, [](int32_t number) { return number; },
                         sleeper, {});
  });
  while (slow_.get(kWord) != (7 | Futexes::kHasWaiters)) std::this_thread::yield();
  // It is in the queue once nobody else can be the owner.
  Sleeper sleeper;
  const Futexes::Lock of_nine{slow_.mm, slow_.place(kWord), kWord, 9, 9};
  while (futexes_.lock(of_nine, Futexes::Way::kTry, nobody, sleeper, {}).value() != EAGAIN)
    std::this_thread::yield();
  slow_.slow.is_slow_to_write = true;
  auto giving = std::async(std::launch::async, [&] { return futexes_.unlock(of_seven); });
  slow_.slow.begun.get_future().wait();
  ASSERT_TRUE(serves(other_));
  slow_.slow.over.set_value();
  EXPECT_TRUE(giving.get().ok());
  EXPECT_TRUE(waiting.get().ok());
  EXPECT_EQ(slow_.get(kWord), 8 | Futexes::kHasWaiters);
}

TEST_F(FutexTest, WhoIsLookingAtAWordMissesNoWake) {
  slow_.slow.is_slow_to_read = true;
  auto waiting = std::async(std::launch::async, [&] {
    Sleeper sleeper;
    return futexes_.wait(slow_.mm, slow_.place(kWord), kWord, 0, ~0U, sleeper, {});
  });
  slow_.slow.begun.get_future().wait();
  std::promise<void> asked;
  auto waking = std::async(std::launch::async, [&] {
    asked.set_value();
    return futexes_.wake(slow_.place(kWord), 1, ~0U).value();
  });
  asked.get_future().wait();
  slow_.slow.over.set_value();
  // Where the wake was asked for late, it found the sleeper all the same.
  EXPECT_EQ(waking.get(), 1);
  EXPECT_TRUE(waiting.get().ok());
}

TEST_F(FutexTest, TheTimeOfAWaitMayBeOverBesideItsWake) {
  for (int round = 0; round < 200; ++round) {
    auto waiting = std::async(std::launch::async, [&] {
      Sleeper sleeper;
      const Deadline soon = Clock::now() + std::chrono::microseconds(50);
      return futexes_.wait(slow_.mm, slow_.place(kWord), kWord, 0, ~0U, sleeper, soon);
    });
    const int woken = futexes_.wake(slow_.place(kWord), 1, ~0U).value();
    const Errno ended = waiting.get();
    EXPECT_EQ(ended.ok(), woken == 1);
    EXPECT_TRUE(ended.ok() || ended.value() == ETIMEDOUT);
  }
}

}  // namespace
}  // namespace fluyt::guest
