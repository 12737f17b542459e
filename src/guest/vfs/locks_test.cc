#include "guest/vfs/locks.h"

#include <gtest/gtest.h>

#include <thread>

namespace fluyt::guest {
namespace {

using Mode = FileLocks::Mode;
constexpr FileLocks::Key kFile{1, 2};
const int kOne = 1;
const int kTwo = 2;

FileLocks::Range range(const void* owner, Mode mode, int64_t first, int64_t last) {
  return {owner, FileLocks::Kind::kProcess, mode, first, last, 7};
}

TEST(FileLocks, RangesConflictAcrossOwnersAlone) {
  FileLocks locks;
  EXPECT_TRUE(locks.lock(kFile, range(&kOne, Mode::kRead, 0, 9), nullptr).ok());
  EXPECT_TRUE(locks.lock(kFile, range(&kTwo, Mode::kRead, 5, 15), nullptr).ok());
  EXPECT_EQ(locks.lock(kFile, range(&kTwo, Mode::kWrite, 9, 20), nullptr).value(), EAGAIN);
  EXPECT_TRUE(locks.lock(kFile, range(&kTwo, Mode::kWrite, 10, 20), nullptr).ok());
  EXPECT_TRUE(locks.lock({1, 3}, range(&kTwo, Mode::kWrite, 0, 9), nullptr).ok());
  const auto found = locks.find_conflict(kFile, range(&kOne, Mode::kRead, 12, 30));
  ASSERT_TRUE(found);
  EXPECT_EQ(found->first, 10);
  EXPECT_EQ(found->last, 20);
}

TEST(FileLocks, RangesAreCutAndJoined) {
  FileLocks locks;
  EXPECT_TRUE(locks.lock(kFile, range(&kOne, Mode::kWrite, 0, FileLocks::kEnd), nullptr).ok());
  locks.unlock(kFile, &kOne, 10, 19);
  EXPECT_TRUE(locks.lock(kFile, range(&kTwo, Mode::kWrite, 10, 19), nullptr).ok());
  EXPECT_EQ(locks.lock(kFile, range(&kTwo, Mode::kWrite, 20, 20), nullptr).value(), EAGAIN);
  locks.unlock(kFile, &kTwo, 10, 19);
  EXPECT_TRUE(locks.lock(kFile, range(&kOne, Mode::kWrite, 10, 19), nullptr).ok());
  EXPECT_EQ(locks.describe([](int32_t pid) { return pid; }),
            "1: POSIX  ADVISORY  WRITE 7 00:01:2 0 EOF\n");
  locks.release_all(&kOne);
  EXPECT_EQ(locks.describe([](int32_t pid) { return pid; }), "");
}

TEST(FileLocks, ACircleOfWaitersIsRefused) {
  FileLocks locks;
  Sleeper one;
  Sleeper two;
  ASSERT_TRUE(locks.lock(kFile, range(&kOne, Mode::kWrite, 0, 0), &one).ok());
  ASSERT_TRUE(locks.lock(kFile, range(&kTwo, Mode::kWrite, 1, 1), &two).ok());
  Errno got = kOk;
  std::thread waiter([&] { got = locks.lock(kFile, range(&kOne, Mode::kWrite, 1, 1), &one); });
  // Until the other waits, this answers EAGAIN.
  Errno refused = Errno(EAGAIN);
  while (refused.value() == EAGAIN) {
    std::this_thread::yield();
    Sleeper impatient;
    impatient.interrupt();
    refused = locks.lock(kFile, range(&kTwo, Mode::kWrite, 0, 0), &impatient);
    if (refused.value() == kRestartSys) refused = Errno(EAGAIN);
  }
  EXPECT_EQ(refused.value(), EDEADLK);
  locks.unlock(kFile, &kTwo, 1, 1);
  waiter.join();
  EXPECT_TRUE(got.ok());
}

TEST(FileLocks, WholeFilesAreSharedOrNot) {
  FileLocks locks;
  EXPECT_TRUE(locks.lock_whole(kFile, &kOne, Mode::kRead, 1, nullptr).ok());
  EXPECT_TRUE(locks.lock_whole(kFile, &kTwo, Mode::kRead, 1, nullptr).ok());
  // A conversion that fails has cost the lock that there was.
  EXPECT_EQ(locks.lock_whole(kFile, &kOne, Mode::kWrite, 1, nullptr).value(), EWOULDBLOCK);
  EXPECT_TRUE(locks.lock_whole(kFile, &kTwo, Mode::kWrite, 1, nullptr).ok());
  // Ranges are another matter.
  EXPECT_TRUE(locks.lock(kFile, range(&kOne, Mode::kWrite, 0, 0), nullptr).ok());
  Sleeper sleeper;
  sleeper.interrupt();
  EXPECT_EQ(locks.lock_whole(kFile, &kOne, Mode::kRead, 1, &sleeper).value(), kRestartSys);
  locks.unlock_whole(kFile, &kTwo);
  EXPECT_TRUE(locks.lock_whole(kFile, &kOne, Mode::kRead, 1, nullptr).ok());
}

}  // namespace
}  // namespace fluyt::guest
