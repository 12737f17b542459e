#include "sys/process.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <sched.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <chrono>
#include <thread>

#include "base/strings.h"
#include "sys/clone.h"
#include "sys/epoll.h"
#include "sys/file.h"
#include "sys/pid_lock.h"
#include "sys/self.h"
#include "sys/socket.h"

namespace fluyt::sys {
namespace {

SpawnOptions shell(const std::string& script) {
  return {.args = {"/bin/sh", "-c", script},
          .env = {"PATH=/usr/bin:/bin"},
          .in = {},
          .out = {},
          .err = {},
          .pass = {}};
}

TEST(Run, CapturesBothOutputsAndTheStatus) {
  auto done = run(shell("cat; echo err >&2; exit 3"), "input", 1000, Deadline::after_ms(10'000));
  ASSERT_TRUE(done.ok()) << done.error().message();
  EXPECT_EQ(done->out, "input");
  EXPECT_EQ(done->err, "err\n");
  EXPECT_EQ(done->status.shell_code(), 3);
}

TEST(Run, DropsWhatIsBeyondTheLimit) {
  auto done = run(shell("head -c 100000 /dev/zero"), "", 10, Deadline::after_ms(10'000));
  ASSERT_TRUE(done.ok());
  EXPECT_EQ(done->out.size(), 10U);
  EXPECT_EQ(done->status.shell_code(), 0);
}

TEST(Run, TheDeadlineEndsChildrenOfTheChildToo) {
  auto done = run(shell("sleep 100 & sleep 100"), "", 10, Deadline::after_ms(200));
  ASSERT_TRUE(done.ok());
  EXPECT_TRUE(done->timed_out);
  EXPECT_EQ(done->status.signal, 9);
}

TEST(Run, AStopEndsItOnceItsGraceIsOver) {
  Pipe stop = make_pipe().value();
  ASSERT_TRUE(write_all(stop.write, "x").ok());
  auto done = run(shell("sleep 100 & sleep 100"), "", 10, Deadline::never(), {.fd = stop.read});
  ASSERT_TRUE(done.ok());
  EXPECT_TRUE(done->stopped);
  EXPECT_FALSE(done->timed_out);
  EXPECT_EQ(done->status.signal, 9);
  // Without outputs that would tell of its end.
  done = run(shell("exec >&- 2>&-; sleep 100"), "", 10, Deadline::never(), {.fd = stop.read});
  ASSERT_TRUE(done.ok());
  EXPECT_TRUE(done->stopped);
  done = run(shell("echo done; exit 3"), "", 10, Deadline::never(),
             {.fd = stop.read, .grace_ms = 60'000});
  ASSERT_TRUE(done.ok());
  EXPECT_FALSE(done->stopped);
  EXPECT_EQ(done->out, "done\n");
  EXPECT_EQ(done->status.shell_code(), 3);
}

TEST(Patience, PrefersWhatItWaitsForToAStop) {
  Pipe stop = make_pipe().value();
  Pipe awaited = make_pipe().value();
  ASSERT_TRUE(write_all(stop.write, "x").ok());
  Patience at_once(Deadline::never(), {.fd = stop.read});
  EXPECT_FALSE(at_once.wait_readable(awaited.read).value());
  EXPECT_TRUE(at_once.is_stopped());
  ASSERT_TRUE(write_all(awaited.write, "x").ok());
  EXPECT_TRUE(Patience(Deadline::never(), {.fd = stop.read}).wait_readable(awaited.read).value());
  Patience past(Deadline::after_ms(0));
  EXPECT_FALSE(past.wait_readable(stop.write).value());
  EXPECT_FALSE(past.is_stopped());
}

TEST(Run, OutputWithoutEndIsNotWaitedForLonger) {
  auto done = run(shell("exec yes"), "", 10, Deadline::after_ms(100));
  ASSERT_TRUE(done.ok());
  EXPECT_TRUE(done->timed_out);
  Pipe stop = make_pipe().value();
  ASSERT_TRUE(write_all(stop.write, "x").ok());
  done = run(shell("exec yes"), "", 10, Deadline::never(), {.fd = stop.read});
  ASSERT_TRUE(done.ok());
  EXPECT_TRUE(done->stopped);
  EXPECT_EQ(done->status.signal, 9);
}

TEST(Patience, WhatIsReadyAlwaysDoesNotMakeItLast) {
  Pipe stop = make_pipe().value();
  Pipe flood = make_pipe().value();
  ASSERT_TRUE(write_all(flood.write, "x").ok());
  Patience stopped(Deadline::never(), {.fd = stop.read});
  for (int i = 0; i < 3; ++i) EXPECT_TRUE(stopped.wait_readable(flood.read).value());
  ASSERT_TRUE(write_all(stop.write, "x").ok());
  EXPECT_TRUE(stopped.wait_readable(flood.read).value());
  EXPECT_FALSE(stopped.wait_readable(flood.read).value());
  EXPECT_TRUE(stopped.is_stopped());
  Patience past(Deadline::after_ms(0));
  EXPECT_TRUE(past.wait_readable(flood.read).value());
  EXPECT_FALSE(past.wait_readable(flood.read).value());
}

TEST(Spawn, DiesWithTheOneThatStartedIt) {
  Pipe told = make_pipe().value();
  const pid_t maker = fork();
  if (maker == 0) {
    SpawnOptions options = shell("exec sleep 1000");
    options.dies_with_us = true;
    auto process = spawn(options);
    const pid_t pid = process.ok() ? process->pid() : -1;
    _exit(::write(told.write.raw(), &pid, sizeof pid) == sizeof pid ? 0 : 1);
  }
  pid_t pid = -1;
  ASSERT_EQ(::read(told.read.raw(), &pid, sizeof pid), ssize_t{sizeof pid});
  ASSERT_GT(pid, 0);
  auto process = Process::open(pid);
  if (process.ok()) {
    EXPECT_TRUE(Patience(Deadline::after_ms(60'000)).wait_readable(process->pidfd()).value());
  }
  waitpid(maker, nullptr, 0);
}

TEST(Spawn, OneThatDiesWithUsMayBeBornInAnotherPidNamespace) {
  if (geteuid() != 0) GTEST_SKIP() << "needs root";
  const pid_t maker = fork();
  if (maker == 0) {
    if (unshare(CLONE_NEWPID) != 0) _exit(2);
    SpawnOptions options = shell("exit 3");
    options.dies_with_us = true;
    auto process = spawn(options);
    if (!process.ok()) _exit(4);
    auto status = process->wait(Deadline::after_ms(60'000));
    _exit(status.ok() && *status ? (*status)->shell_code() : 5);
  }
  int status = 0;
  ASSERT_EQ(waitpid(maker, &status, 0), maker);
  EXPECT_EQ(WEXITSTATUS(status), 3);
}

// Data of each kind that protect_in_place() maps anew: what was written must still be there after
// it.
int written_before = 1;
int never_written = 7;
std::string made_at_start = "made by a constructor, longer than what fits in the object itself";

int protect_and_look() {
  written_before = 2;
  const int own_file = ::open("/proc/self/exe", O_PATH);
  auto before = runs_protected();
  if (!before.ok() || *before) return 10;
  if (auto done = protect_in_place(); !done.ok()) {
    fprintf(stderr, "%s\n", done.error().message().c_str());
    return 11;
  }
  auto after = runs_protected();
  if (!after.ok() || !*after) return 12;
  if (written_before != 2 || never_written != 7 || made_at_start.size() != 65) return 13;
  // What is shown instead of our file cannot be written, nor is it our file: opening that to write,
  // over and over, would keep everyone from executing it.
  struct stat shown{};
  struct stat file{};
  if (stat("/proc/self/exe", &shown) != 0 || fstat(own_file, &file) != 0) return 14;
  if (shown.st_dev == file.st_dev && shown.st_ino == file.st_ino) return 16;
  if (::open("/proc/self/exe", O_WRONLY) >= 0) return 17;
  return write_file(kCwd, "/dev/null", made_at_start).ok() ? 0 : 15;
}

TEST(Self, ProtectInPlaceKeepsTheDataAndShutsOffTheFile) {
  if (geteuid() != 0) GTEST_SKIP() << "needs root";
  auto child = clone_process({});
  ASSERT_TRUE(child.ok());
  if (!*child) _exit(protect_and_look());
  auto status = (*child)->wait(Deadline::after_ms(10'000));
  ASSERT_TRUE(status.ok());
  EXPECT_EQ((*status)->shell_code(), 0);
}

TEST(Spawn, AMissingProgramIsAnErrorHere) {
  auto process =
      spawn({.args = {"/no/such/program"}, .env = {}, .in = {}, .out = {}, .err = {}, .pass = {}});
  ASSERT_FALSE(process.ok());
  EXPECT_EQ(process.error().errno_value(), ENOENT);
}

TEST(Spawn, PassesTheDescriptorsNamedAndNoOther) {
  Pipe out = make_pipe().value();
  const int leak = ::open("/dev/null", O_RDONLY);  // no close-on-exec, on purpose
  auto options = shell("ls /proc/self/fd | tr '\\n' ' '; echo passed >&5");
  options.out = out.write;
  options.pass = {{out.write, 5}};
  auto process = spawn(options);
  ASSERT_TRUE(process.ok());
  out.write.reset();
  // ls itself opens one (3) for the listing.
  EXPECT_EQ(read_all(out.read, 1000).value(), "0 1 2 3 5 passed\n");
  ASSERT_TRUE(process->wait(Deadline::after_ms(5000)).value().has_value());
  ::close(leak);
}

TEST(Process, StartTimeTellsAProcessFromItsSuccessor) {
  EXPECT_GT(start_time_of(getpid()).value(), 0U);
  EXPECT_EQ(start_time_of(2'000'000'000).error().code(), Code::kNotFound);
}

TEST(Epoll, AHandlerMayRemoveItself) {
  auto epoll = Epoll::create();
  ASSERT_TRUE(epoll.ok());
  Pipe pipe = make_pipe().value();
  int calls = 0;
  ASSERT_TRUE(epoll
                  ->add(pipe.read, EPOLLIN,
                        [&](uint32_t) {
                          ++calls;
                          epoll->remove(pipe.read);
                        })
                  .ok());
  ASSERT_TRUE(write_all(pipe.write, "x").ok());
  EXPECT_EQ(epoll->wait(1000).value(), 1);
  EXPECT_EQ(epoll->wait(0).value(), 0);
  EXPECT_EQ(calls, 1);
}

TEST(Socket, ALiveOneIsNotReplacedADeadOneIs) {
  auto dir = TempDir::create();
  ASSERT_TRUE(dir.ok());
  ASSERT_TRUE(make_dirs(dir->path() + "/" + std::string(70, 'd'), 0700).ok());
  const std::string path = dir->path() + "/" + std::string(70, 'd') + "/" + std::string(60, 'x') +
                           ".sock";  // longer than sun_path
  auto first = listen_unix(path, SOCK_STREAM, 0660);
  ASSERT_TRUE(first.ok()) << first.error().message();
  EXPECT_EQ(find_stat(kCwd, path).value()->st_mode & 0777U, 0660U);
  EXPECT_EQ(listen_unix(path, SOCK_STREAM, 0660).error().code(), Code::kAlreadyExists);
  first->reset();
  EXPECT_TRUE(listen_unix(path, SOCK_STREAM, 0600).ok());
}

TEST(Socket, DescriptorsTravelWithTheirBytes) {
  auto pair = make_socketpair(SOCK_STREAM);
  ASSERT_TRUE(pair.ok());
  Pipe pipe = make_pipe().value();
  ASSERT_TRUE(send_with_fds(pair->first, "hello", {pipe.write.ref()}).ok());
  char buffer[16];
  auto got = receive_with_fds(pair->second, buffer, sizeof buffer);
  ASSERT_TRUE(got.ok());
  ASSERT_EQ(got->fds.size(), 1U);
  ASSERT_TRUE(write_all(got->fds[0], "through").ok());
  pipe.write.reset();
  got->fds.clear();
  EXPECT_EQ(read_all(pipe.read, 100).value(), "through");
  EXPECT_EQ(peer_of(pair->first)->pid, getpid());
}

TEST(PidLock, OneThatLivesHasItAndIsNamed) {
  const auto folder = TempDir::create();
  const std::string path = folder->path() + "/lock";
  const auto first = take_pid_lock(path, Deadline::after_ms(0));
  ASSERT_TRUE(first.ok()) << first.error().message();
  const auto second = take_pid_lock(path, Deadline::after_ms(60'000));
  ASSERT_FALSE(second.ok());
  EXPECT_EQ(second.error().code(), Code::kAlreadyExists);
  EXPECT_EQ(second.error().message(), cat("pid ", getpid()));
}

TEST(PidLock, AChildOfADeadHolderIsWaitedFor) {
  const auto folder = TempDir::create();
  const std::string path = folder->path() + "/lock";
  Pipe pipe = make_pipe().value();
  const pid_t holder = fork();
  if (holder == 0) {
    const auto lock = take_pid_lock(path, Deadline::after_ms(0));
    if (fork() == 0) {  // it ends when the test says so
      pipe.write.reset();
      read_all(pipe.read, 1).ignore("the end is what it waits for");
    }
    _exit(lock.ok() ? 0 : 1);
  }
  pipe.read.reset();
  int status = 0;
  ASSERT_EQ(waitpid(holder, &status, 0), holder);
  ASSERT_EQ(status, 0);
  EXPECT_EQ(take_pid_lock(path, Deadline::after_ms(50)).error().message(), cat("pid ", holder));
  std::thread later([&] {
    std::this_thread::sleep_for(std::chrono::milliseconds(100));
    pipe.write.reset();
  });
  const auto lock = take_pid_lock(path, Deadline::after_ms(60'000));
  EXPECT_TRUE(lock.ok()) << lock.error().message();
  later.join();
  EXPECT_EQ(read_file(path, 64).value(), cat(getpid(), "\n"));
}

}  // namespace
}  // namespace fluyt::sys
