#include "guest/vfs/watches.h"

#include <gtest/gtest.h>
#include <sys/inotify.h>
#include <sys/stat.h>

#include <cstring>

#include "guest/vfs/inode.h"

namespace fluyt::guest {
namespace {

class Numbered final : public Inode {
 public:
  explicit Numbered(uint64_t number, uint32_t mode = S_IFDIR) : number_(number), mode_(mode) {}
  uint32_t type() const override { return mode_; }
  ErrnoOr<Stat> stat() override {
    ++asked;
    Stat out;
    out.dev = 1;
    out.ino = number_;
    return out;
  }
  Errno set_attributes(const SetAttributes&) override { return Errno(EPERM); }
  ErrnoOr<FilePtr> open(DentryPtr, int) override { return Errno(ENXIO); }
  int asked = 0;

 private:
  uint64_t number_;
  uint32_t mode_;
};

class WatchesTest : public testing::Test {
 protected:
  std::vector<inotify_event> take(Watcher& watcher) {
    std::vector<std::byte> buffer(4 << 20);
    const ErrnoOr<size_t> got = watches_.take(watcher, buffer);
    std::vector<inotify_event> out;
    for (size_t at = 0; got.ok() && at < got.value();
         at += sizeof(inotify_event) + out.back().len) {
      inotify_event event{};
      std::memcpy(&event, buffer.data() + at, sizeof event);
      out.push_back(event);
    }
    return out;
  }
  Watches watches_;
  std::shared_ptr<Watcher> watcher_ = watches_.make_watcher().value();
  std::shared_ptr<Numbered> dir_ = std::make_shared<Numbered>(7);
};

TEST_F(WatchesTest, NobodyIsToldUntilSomebodyWatches) {
  EXPECT_FALSE(watches_.any());
  EXPECT_EQ(watches_.add(*watcher_, dir_, IN_CREATE).value(), 1);
  EXPECT_TRUE(watches_.any());
  EXPECT_TRUE(watches_.remove(*watcher_, 1).ok());
  EXPECT_FALSE(watches_.any());
  EXPECT_EQ(watches_.remove(*watcher_, 1).value(), EINVAL);
  const auto events = take(*watcher_);
  ASSERT_EQ(events.size(), 1U);
  EXPECT_EQ(events[0].mask, uint32_t{IN_IGNORED});
}

TEST_F(WatchesTest, AFileIsTheSameInEveryInodeOfItsNumber) {
  ASSERT_TRUE(watches_.add(*watcher_, dir_, IN_CREATE).ok());
  Numbered again(7);
  Numbered other(8);
  watches_.tell_directory(other, "a", IN_CREATE);
  EXPECT_TRUE(take(*watcher_).empty());
  watches_.tell_directory(again, "a", IN_CREATE);
  watches_.tell_directory(again, "b", IN_CREATE);
  EXPECT_EQ(take(*watcher_).size(), 2U);
  EXPECT_EQ(again.asked, 1);
  EXPECT_EQ(watches_.add(*watcher_, std::make_shared<Numbered>(7), IN_DELETE).value(), 1);
}

TEST_F(WatchesTest, AWatchKeepsItsInodeAndNoLonger) {
  std::weak_ptr<Inode> kept = dir_;
  ASSERT_TRUE(watches_.add(*watcher_, dir_, IN_CREATE).ok());
  dir_.reset();
  EXPECT_FALSE(kept.expired());
  watches_.tell_gone(*kept.lock());
  EXPECT_TRUE(kept.expired());
  EXPECT_EQ(take(*watcher_).size(), 1U);
}

TEST_F(WatchesTest, TooManyEventsAreToldOnce) {
  ASSERT_TRUE(watches_.add(*watcher_, dir_, IN_CREATE | IN_DELETE).ok());
  for (size_t i = 0; i < Watches::kMaxEvents + 10; ++i)
    watches_.tell_directory(*dir_, "f", i % 2 == 0 ? IN_CREATE : IN_DELETE);
  auto events = take(*watcher_);
  ASSERT_EQ(events.size(), Watches::kMaxEvents + 1);
  EXPECT_EQ(events.back().mask, uint32_t{IN_Q_OVERFLOW});
  EXPECT_EQ(events.back().wd, -1);
  watches_.tell_directory(*dir_, "f", IN_CREATE);
  EXPECT_EQ(take(*watcher_).size(), 1U);
}

TEST_F(WatchesTest, WhatWaitsForAllTogetherIsBounded) {
  std::vector<std::shared_ptr<Watcher>> watchers;
  for (int i = 0; i < 60; ++i) {
    watchers.push_back(watches_.make_watcher().value());
    ASSERT_TRUE(watches_.add(*watchers.back(), dir_, IN_CREATE | IN_DELETE).ok());
  }
  const std::string name(250, 'n');
  for (int i = 0; i < 8000; ++i)
    watches_.tell_directory(*dir_, name, i % 2 == 0 ? IN_CREATE : IN_DELETE);
  size_t bytes = 0;
  for (const auto& watcher : watchers) {
    bytes += watches_.waiting_bytes(*watcher);
    const auto events = take(*watcher);
    ASSERT_FALSE(events.empty());
    EXPECT_EQ(events.back().mask, uint32_t{IN_Q_OVERFLOW});
  }
  EXPECT_LT(bytes, Watches::kMaxBytes);
  watches_.tell_directory(*dir_, name, IN_CREATE);
  EXPECT_EQ(take(*watchers[0]).size(), 1U);
  for (const auto& watcher : watchers) watches_.close(*watcher);
}

TEST_F(WatchesTest, WatchersAndWatchesAreCounted) {
  std::vector<std::shared_ptr<Watcher>> watchers;
  while (watchers.size() + 1 < Watches::kMaxWatchers) {
    auto made = watches_.make_watcher();
    ASSERT_TRUE(made.ok());
    watchers.push_back(std::move(made).value());
  }
  EXPECT_EQ(watches_.make_watcher().error().value(), EMFILE);
  watches_.close(*watchers.back());
  EXPECT_TRUE(watches_.make_watcher().ok());
  for (size_t i = 0; i < Watches::kMaxWatches; ++i)
    ASSERT_TRUE(watches_.add(*watcher_, std::make_shared<Numbered>(i), IN_CREATE).ok());
  EXPECT_EQ(watches_.add(*watchers[0], std::make_shared<Numbered>(1), IN_CREATE).error().value(),
            ENOSPC);
  EXPECT_TRUE(watches_.remove(*watcher_, 5).ok());
  EXPECT_TRUE(watches_.add(*watchers[0], std::make_shared<Numbered>(1), IN_CREATE).ok());
  watches_.close(*watcher_);
  EXPECT_TRUE(watches_.any());
  watches_.close(*watchers[0]);
  EXPECT_FALSE(watches_.any());
}

}  // namespace
}  // namespace fluyt::guest
