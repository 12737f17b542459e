// Shell scripts in place of runtime programs.

#include "monitor/program/call.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <unistd.h>

#include "base/strings.h"
#include "sys/file.h"

namespace fluyt::monitor {
namespace {

using testing::HasSubstr;

class Call : public testing::Test {
 protected:
  void SetUp() override {
    auto folder = sys::TempDir::create();
    ASSERT_TRUE(folder.ok());
    folder_ = std::make_unique<sys::TempDir>(std::move(*folder));
    ASSERT_TRUE(adopt_orphans().ok());
  }
  void TearDown() override {
    end_adopted();
    prctl(PR_SET_CHILD_SUBREAPER, 0);
  }
  std::string path(const std::string& name) const { return cat(folder_->path(), "/", name); }
  Result<> run(const std::string& script, int64_t deadline_ms = 10'000, sys::FdRef input = {}) {
    printed_ = sys::Fd(memfd_create("printed", MFD_CLOEXEC));
    ProgramCall call;
    call.words = {"/bin/sh", "-c", script, "program", path("log"), path("pid")};
    call.out = printed_;
    call.err = printed_;
    call.err_tail = printed_;
    call.log = path("log");
    call.input = input;
    return call_program(call, Deadline::after_ms(deadline_ms));
  }
  std::string printed() {
    lseek(printed_.raw(), 0, SEEK_SET);
    return sys::read_all(printed_, 1UL << 16U).value_or("?");
  }
  std::unique_ptr<sys::TempDir> folder_;
  sys::Fd printed_;
};

TEST_F(Call, SuccessIsNoWordAtAll) {
  EXPECT_TRUE(run("echo noise; echo '{\"level\":\"error\",\"msg\":\"x\"}' >$1").ok());
  EXPECT_FALSE(sys::exists(path("log")));
}

TEST_F(Call, FailureIsToldInTheWordsOfTheLog) {
  const auto failed =
      run("echo '{\"level\":\"error\",\"msg\":\"no room\"}' >$1; echo other; exit 1");
  ASSERT_FALSE(failed.ok());
  EXPECT_EQ(failed.error().message(), "sh: no room");
  EXPECT_EQ(failed.error().code(), Code::kFailedPrecondition);
  const auto printed = run("echo 'flag provided but not defined' >&2; exit 2");
  EXPECT_EQ(printed.error().message(), "sh: flag provided but not defined");
  EXPECT_EQ(run("exit 3").error().message(), "sh: ended with status 3 and no word");
  EXPECT_EQ(run("kill -9 $$").error().message(), "sh: ended by signal 9");
}

TEST_F(Call, AMissingFileIsNotFound) {
  const auto failed =
      run("echo '{\"level\":\"error\",\"msg\":\"/x: no such file or directory\"}' >$1; exit 1");
  EXPECT_EQ(failed.error().code(), Code::kNotFound);
}

TEST_F(Call, TheInputIsItsThirdDescriptorAndNothingElseIsOpen) {
  const auto input = sys::sealed_memfd("input", "as given");
  ASSERT_TRUE(input.ok());
  ASSERT_TRUE(run("cat /proc/self/fd/3; echo; ls /proc/self/fd | wc -l", 10'000, *input).ok());
  // 0 to 3, and the folder that ls reads.
  EXPECT_EQ(printed(), "as given\n5\n");
  ASSERT_TRUE(run("ls /proc/self/fd | wc -l").ok());
  EXPECT_EQ(printed(), "4\n");
}

TEST_F(Call, AtTheDeadlineAllThatItStartedIsEnded) {
  const auto late = run("setsid sleep 1000 & echo $! >$2; trap '' TERM; sleep 1000", 300);
  ASSERT_FALSE(late.ok());
  EXPECT_EQ(late.error().code(), Code::kDeadlineExceeded);
  const auto pid = parse_number<pid_t>(trim(sys::read_file(path("pid"), 64).value_or("")));
  ASSERT_TRUE(pid.has_value());
  EXPECT_EQ(::kill(*pid, 0), -1);
}

TEST_F(Call, WhatItLeavesIsAdopted) {
  ASSERT_TRUE(run("sleep 1000 >/dev/null 2>&1 & echo $! >$2").ok());
  const auto left = adopted_process(path("pid"));
  ASSERT_TRUE(left.ok()) << left.error().message();
  EXPECT_TRUE(left->kill(SIGKILL).ok());
  EXPECT_FALSE(sys::exists(path("pid")));
}

TEST_F(Call, OneThatHasEndedAlreadyIsStillOurs) {
  // Killed before it could wait for its child, which ends once it has gone.
  ASSERT_FALSE(
      run("sh -c 'while [ -d /proc/$0 ]; do :; done; exit 7' $$ & echo $! >$2; kill -9 $$").ok());
  usleep(100'000);
  const auto left = adopted_process(path("pid"));
  ASSERT_TRUE(left.ok()) << left.error().message();
  EXPECT_EQ((*left->wait(Deadline::after_ms(1000)))->code, 7);
}

TEST_F(Call, APidThatWasNotLeftToUsIsRefused) {
  for (const char* pid : {"1", "0", "-5", "x", "", "999999"}) {
    ASSERT_TRUE(run(cat("echo '", pid, "' >$2")).ok());
    EXPECT_THAT(adopted_process(path("pid")).error().message(), HasSubstr("pid")) << pid;
  }
  EXPECT_EQ(adopted_process(path("none")).error().code(), Code::kNotFound);
}

TEST_F(Call, AProgramThatIsNotThereIsAnError) {
  ProgramCall call;
  call.words = {"/does/not/exist", "create"};
  const auto failed = call_program(call, Deadline::after_ms(1000));
  ASSERT_FALSE(failed.ok());
  EXPECT_THAT(failed.error().message(), HasSubstr("/does/not/exist"));
}

}  // namespace
}  // namespace fluyt::monitor
