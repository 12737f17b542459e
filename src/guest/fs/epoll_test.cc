#include "guest/fs/epoll.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <poll.h>
#include <sys/epoll.h>

#include <algorithm>
#include <array>
#include <random>
#include <thread>

#include "guest/fs/special.h"

namespace fluyt::guest {
namespace {

std::shared_ptr<Epoll> make_epoll() { return std::make_shared<Epoll>(0); }

std::vector<uint64_t> look(Epoll& epoll, const Deadline& deadline = Clock::now()) {
  Sleeper sleeper;
  std::vector<uint64_t> out;
  const ErrnoOr<size_t> found =
      epoll.wait(sleeper, 64, deadline, [&](std::span<const EpollEvent> events) {
        for (const EpollEvent& event : events) out.push_back(event.data);
        return kOk;
      });
  EXPECT_TRUE(found.ok());
  return out;
}

void put(const FilePtr& file) {
  Sleeper sleeper;
  Credentials who;
  Caller caller{sleeper, who};
  const std::byte byte{};
  EXPECT_TRUE(file->write(caller, std::span(&byte, 1), nullptr).ok());
}

TEST(Epoll, AFileThatEndsIsWatchedNoMore) {
  const auto epoll = make_epoll();
  PipeEnds ends = make_pipe(0);
  EXPECT_TRUE(epoll->add(3, ends.reader, {EPOLLIN, 1}).ok());
  put(ends.writer);
  EXPECT_EQ(look(*epoll), std::vector<uint64_t>{1});
  ends.reader.reset();
  EXPECT_TRUE(look(*epoll).empty());
  // The number is free for another file.
  ends = make_pipe(0);
  EXPECT_TRUE(epoll->add(3, ends.reader, {EPOLLIN, 2}).ok());
}

TEST(Epoll, WhatCannotBeDeliveredStays) {
  const auto epoll = make_epoll();
  const PipeEnds ends = make_pipe(0);
  EXPECT_TRUE(epoll->add(3, ends.reader, {EPOLLIN | EPOLLET | EPOLLONESHOT, 1}).ok());
  put(ends.writer);
  Sleeper sleeper;
  const auto refused = epoll->wait(sleeper, 1, Clock::now(),
                                   [](std::span<const EpollEvent>) { return Errno(EFAULT); });
  EXPECT_EQ(refused.error(), Errno(EFAULT));
  EXPECT_EQ(look(*epoll), std::vector<uint64_t>{1});
  EXPECT_TRUE(look(*epoll).empty());
}

TEST(Epoll, OneEdgeIsOneWaitersAlone) {
  const auto epoll = make_epoll();
  const PipeEnds ends = make_pipe(0);
  EXPECT_TRUE(epoll->add(3, ends.reader, {EPOLLIN | EPOLLET, 1}).ok());
  std::atomic<int> taken{0};
  std::vector<std::thread> waiters;
  for (int i = 0; i < 4; ++i)
    waiters.emplace_back([&] {
      taken += static_cast<int>(look(*epoll, Clock::now() + std::chrono::milliseconds(300)).size());
    });
  std::this_thread::sleep_for(std::chrono::milliseconds(50));
  put(ends.writer);
  for (std::thread& waiter : waiters) waiter.join();
  EXPECT_EQ(taken, 1);
}

// Adding, removing, ending, waiting and writing beside each other, with epolls in epolls: nothing
// hangs, and nothing is lost at the end.
TEST(Epoll, Storm) {
  std::array<std::shared_ptr<Epoll>, 4> epolls;
  std::mutex mutex;
  for (auto& epoll : epolls) epoll = make_epoll();
  std::array<PipeEnds, 4> pipes;
  for (auto& ends : pipes) ends = make_pipe(O_NONBLOCK);
  std::atomic<bool> stop{false};
  std::vector<std::thread> threads;
  for (unsigned seed = 0; seed < 4; ++seed)
    threads.emplace_back([&, seed] {
      std::mt19937 random(seed);
      Sleeper sleeper;
      Credentials who;
      Caller caller{sleeper, who};
      std::byte byte{};
      while (!stop) {
        std::shared_ptr<Epoll> epoll;
        std::shared_ptr<Epoll> other;
        PipeEnds ends;
        {
          std::lock_guard lock(mutex);
          epoll = epolls[random() % 4];
          other = epolls[random() % 4];
          ends = pipes[random() % 4];
        }
        const int fd = static_cast<int>(random() % 3);
        switch (random() % 8) {
          case 0:
            (void)epoll->add(fd, ends.reader, {EPOLLIN | (random() % 2 ? EPOLLET : 0U), 1}).ok();
            break;
          case 1:
            (void)epoll->remove(fd, ends.reader).ok();
            break;
          case 2:
            (void)epoll->add(fd, other, {EPOLLIN, 2}).ok();
            break;
          case 3:
            (void)epoll->remove(fd, other).ok();
            break;
          case 4:
            (void)ends.writer->write(caller, std::span(&byte, 1), nullptr).ok();
            break;
          case 5:
            (void)ends.reader->read(caller, std::span(&byte, 1), nullptr).ok();
            break;
          case 6:
            look(*epoll, Clock::now() + std::chrono::microseconds(50));
            break;
          default: {
            std::lock_guard lock(mutex);
            if (random() % 2 == 0)
              epolls[random() % 4] = make_epoll();
            else
              pipes[random() % 4] = make_pipe(O_NONBLOCK);
          }
        }
      }
    });
  std::this_thread::sleep_for(std::chrono::milliseconds(500));
  stop = true;
  for (std::thread& thread : threads) thread.join();
  const PipeEnds ends = make_pipe(0);
  for (auto& epoll : epolls) {
    EXPECT_TRUE(epoll->add(9, ends.reader, {EPOLLIN | EPOLLET, 3}).ok());
    look(*epoll);
  }
  put(ends.writer);
  for (auto& epoll : epolls) {
    const std::vector<uint64_t> found = look(*epoll);
    EXPECT_TRUE(std::ranges::find(found, 3) != found.end());
  }
}

}  // namespace
}  // namespace fluyt::guest
