#include "monitor/client/standstill.h"

#include <gtest/gtest.h>
#include <sched.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/strings.h"
#include "base/time.h"

namespace fluyt::monitor {
namespace {

// A child that sleeps, or runs, until the test is over.
class Child {
 public:
  enum class Does { kSleep, kRun };
  explicit Child(Does what) : pid_(fork()) {
    if (pid_ != 0) return;
    volatile uint64_t turns = 0;
    while (true) {
      if (what == Does::kSleep) pause();
      turns = turns + 1;
    }
  }
  Child(const Child&) = delete;
  Child& operator=(const Child&) = delete;
  ~Child() {
    kill(pid_, SIGKILL);
    waitpid(pid_, nullptr, 0);
  }
  pid_t pid() const { return pid_; }
  void wait_for_state(char state) const {
    for (int i = 0; i < 500 && progress_of(pid_).value_or(Progress{}).state != state; ++i)
      usleep(10'000);
    ASSERT_EQ(progress_of(pid_).value_or(Progress{}).state, state);
  }

 private:
  pid_t pid_;
};

template <class Look>
bool becomes_true_within_ms(int64_t ms, Look look) {
  const Deadline deadline = Deadline::after_ms(ms);
  while (!deadline.passed()) {
    if (look()) return true;
    usleep(50'000);
  }
  return false;
}

TEST(Standstill, OfAStoppedProcessIsSeenAtOnce) {
  const Child child(Child::Does::kSleep);
  child.wait_for_state('S');
  StandstillWatch watch(child.pid());
  EXPECT_EQ(watch.look(), "");
  kill(child.pid(), SIGSTOP);
  child.wait_for_state('T');
  EXPECT_EQ(watch.look(), cat("pid ", child.pid(), " is stopped"));
  kill(child.pid(), SIGCONT);
  child.wait_for_state('S');
  EXPECT_EQ(watch.look(), "");
}

TEST(Standstill, IsNotThatOfOneThatWaitsForWork) {
  const Child child(Child::Does::kSleep);
  StandstillWatch watch(child.pid());
  EXPECT_FALSE(becomes_true_within_ms(1'500, [&] { return !watch.look().empty(); }));
}

TEST(Standstill, AtADeadlineIsThatOfOneThatWaitsForWork) {
  const Child idle(Child::Does::kSleep);
  const Child busy(Child::Does::kRun);
  idle.wait_for_state('S');
  StandstillWatch of_idle(idle.pid());
  StandstillWatch of_busy(busy.pid());
  EXPECT_FALSE(of_idle.is_idle());
  bool ever_busy = false;
  EXPECT_TRUE(becomes_true_within_ms(5'000, [&] {
    of_idle.look();
    of_busy.look();
    ever_busy = ever_busy || of_busy.is_idle();
    return of_idle.is_idle();
  }));
  EXPECT_FALSE(ever_busy);
}

TEST(Standstill, OfOneThatIsGoneIsForItsPidfdToTell) {
  pid_t pid = 0;
  {
    const Child child(Child::Does::kSleep);
    pid = child.pid();
  }
  EXPECT_EQ(StandstillWatch(pid).look(), "");
  EXPECT_EQ(progress_of(pid).error().code(), Code::kNotFound);
}

TEST(KilledWatch, SeesThatNoneOfThemGetsAnywhere) {
  const Child one(Child::Does::kSleep);
  const Child two(Child::Does::kSleep);
  one.wait_for_state('S');
  two.wait_for_state('S');
  KilledWatch watch;
  EXPECT_FALSE(watch.stands_still({one.pid(), two.pid()}));
  EXPECT_TRUE(
      becomes_true_within_ms(2'000, [&] { return watch.stands_still({one.pid(), two.pid()}); }));
}

TEST(KilledWatch, WaitsForOneThatRuns) {
  const Child sleeps(Child::Does::kSleep);
  const Child runs(Child::Does::kRun);
  KilledWatch watch;
  EXPECT_FALSE(becomes_true_within_ms(
      1'000, [&] { return watch.stands_still({sleeps.pid(), runs.pid()}); }));
  EXPECT_FALSE(becomes_true_within_ms(500, [&] { return watch.stands_still({}); }));
}

// The init of a PID namespace, and a process in it that somebody outside has to wait for.
TEST(KilledWatch, WaitsForAnInitWhoseNamespaceIsNotYetEmpty) {
  if (geteuid() != 0) GTEST_SKIP() << "needs root";
  int said[2];
  int leave[2];
  ASSERT_EQ(pipe(said), 0);
  ASSERT_EQ(pipe(leave), 0);
  const pid_t outside = fork();
  if (outside == 0) {
    close(leave[1]);
    if (unshare(CLONE_NEWPID) != 0) _exit(1);
    const pid_t init = fork();
    if (init == 0 || fork() == 0)
      while (true) pause();
    char byte = 0;
    if (write(said[1], &init, sizeof init) != sizeof init || read(leave[0], &byte, 1) != 0)
      _exit(1);
    while (wait(nullptr) > 0) {
    }
    _exit(0);
  }
  pid_t init = 0;
  ASSERT_EQ(read(said[0], &init, sizeof init), static_cast<ssize_t>(sizeof init));
  kill(init, SIGKILL);
  KilledWatch watch;
  EXPECT_FALSE(becomes_true_within_ms(1'000, [&] { return watch.stands_still({init}); }));
  const Progress progress = progress_of(init).value_or(Progress{});
  EXPECT_EQ(progress.state, 'S');
  EXPECT_TRUE(progress.ending);
  close(leave[1]);
  waitpid(outside, nullptr, 0);
  EXPECT_EQ(progress_of(init).error().code(), Code::kNotFound);
  for (const int fd : {said[0], said[1], leave[0]}) close(fd);
}

}  // namespace
}  // namespace fluyt::monitor
