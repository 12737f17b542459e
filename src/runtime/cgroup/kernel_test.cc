#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sched.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <functional>

#include "base/strings.h"
#include "runtime/cgroup/cgroup.h"
#include "runtime/cgroup/devices.h"
#include "runtime/cgroup/files.h"
#include "runtime/cgroup/stats.h"
#include "sys/clone.h"
#include "sys/epoll.h"
#include "sys/file.h"

// What the kernel of this machine makes of it, in cgroups of our own that each test removes. On a
// hybrid host every test runs three times: as it is, as if there were no v2, as if there were no
// v1.
namespace fluyt::runtime::cgroup {
namespace {

using ::testing::Contains;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::SizeIs;

enum class Sort { kAsItIs, kLegacyAlone, kUnifiedAlone };

#define ASSERT_OK(expression)                                   \
  do {                                                          \
    const auto& ok_result = (expression);                       \
    ASSERT_TRUE(ok_result.ok()) << ok_result.error().message(); \
  } while (false)

Deadline soon() { return Deadline::after_ms(5000); }

class Kernel : public ::testing::TestWithParam<Sort> {
 protected:
  void SetUp() override {
    if (geteuid() != 0) GTEST_SKIP() << "needs root";
    auto host = probe();
    if (!host.ok()) GTEST_SKIP() << host.error().message();
    host_ = std::move(host).value();
    if (GetParam() != Sort::kAsItIs && !host_.hybrid())
      GTEST_SKIP() << "this host has one sort of hierarchy only";
    if (GetParam() == Sort::kLegacyAlone) {
      host_.unified.clear();
      host_.controllers.clear();
    }
    if (GetParam() == Sort::kUnifiedAlone) host_.legacy.clear();
    static int counter = 0;
    parent_ = cat("/fluyt-cgroup-test-", getpid(), "-", ++counter);
    auto record = locate(host_, parent_ + "/leaf", "unused");
    ASSERT_TRUE(record.ok()) << record.error().message();
    record_ = std::move(record).value();
    if (std::string why; !writable(why)) GTEST_SKIP() << why;
  }
  void TearDown() override {
    if (parent_.empty()) return;
    // Every directory, also of the hierarchies that a test pretended were not there.
    const CgroupRecord all = locate(probe().value(), parent_, "unused").value();
    kill_all(all, soon()).ignore("the test has said what went wrong");
    for (const pid_t pid : children_) {
      ::kill(pid, SIGKILL);
      waitpid(pid, nullptr, 0);
    }
    const auto removed = remove(all, soon());
    EXPECT_TRUE(removed.ok()) << removed.error().message();
  }

  bool writable(std::string& why) const {
    const std::string root =
        host_.unified.empty() ? host_.legacy.front().mount_point : host_.unified;
    if (access(root.c_str(), W_OK) == 0) return true;
    why = cat(root, " is read-only");
    return false;
  }
  bool has(const char* controller, const char* unified = nullptr) const {
    if (host_.find_legacy(controller) != nullptr) return true;
    const std::string name = unified != nullptr ? unified : controller;
    return std::find(host_.controllers.begin(), host_.controllers.end(), name) !=
           host_.controllers.end();
  }
  Result<Hold> make_leaf(const oci::Resources& resources = {}) {
    return make(host_, record_, resources);
  }

  /// A child in the cgroup that runs `body` and exits with its answer.
  pid_t start(const std::function<int()>& body) {
    sys::Pipe go = sys::make_pipe().value();
    const pid_t pid = fork();
    if (pid == 0) {
      char byte = 0;
      go.write.reset();
      if (::read(go.read.raw(), &byte, 1) != 1) _exit(99);
      _exit(body());
    }
    const auto joined = join(record_, pid);
    EXPECT_TRUE(joined.ok()) << joined.error().message();
    EXPECT_TRUE(sys::write_all(go.write, "x").ok());
    children_.push_back(pid);
    return pid;
  }
  pid_t start_sleeper() {
    return start([] {
      while (true) pause();
      return 0;
    });
  }
  int run(const std::function<int()>& body) {
    const pid_t pid = start(body);
    int status = 0;
    waitpid(pid, &status, 0);
    children_.pop_back();
    return WIFEXITED(status) ? WEXITSTATUS(status) : 256 + WTERMSIG(status);
  }
  std::string value_of(const char* controller, const std::string& file) const {
    for (const auto& [name, directory] : record_.legacy) {
      if (name == controller)
        return std::string(trim(sys::read_file(directory + "/" + file, 4096).value_or("?")));
    }
    return std::string(trim(sys::read_file(record_.unified + "/" + file, 4096).value_or("?")));
  }

  Host host_;
  std::string parent_;
  CgroupRecord record_;
  std::vector<pid_t> children_;
};

std::string name_of_sort(const ::testing::TestParamInfo<Sort>& sort) {
  switch (sort.param) {
    case Sort::kAsItIs:
      return "AsItIs";
    case Sort::kLegacyAlone:
      return "LegacyAlone";
    case Sort::kUnifiedAlone:
      return "UnifiedAlone";
  }
  return {};
}

INSTANTIATE_TEST_SUITE_P(Each, Kernel,
                         ::testing::Values(Sort::kAsItIs, Sort::kLegacyAlone, Sort::kUnifiedAlone),
                         name_of_sort);

TEST_P(Kernel, MakeJoinKillRemove) {
  ASSERT_OK(make_leaf());
  const pid_t pid = start_sleeper();
  EXPECT_THAT(pids(record_).value(), ElementsAre(pid));
  ASSERT_OK(kill_all(record_, soon()));
  EXPECT_THAT(pids(record_).value(), IsEmpty());
  ASSERT_OK(remove(record_, soon()));
  ASSERT_OK(remove(record_, soon()));
  ASSERT_OK(kill_all(record_, soon()));
  EXPECT_THAT(pids(record_).value(), IsEmpty());
  for (const auto& [name, directory] : record_.legacy) EXPECT_FALSE(sys::exists(directory)) << name;
}

TEST_P(Kernel, AnOccupiedCgroupIsRefusedAndKept) {
  ASSERT_OK(make_leaf());
  ASSERT_OK(make_leaf());
  const pid_t pid = start_sleeper();
  const auto again = make_leaf();
  ASSERT_FALSE(again.ok());
  EXPECT_EQ(again.error().code(), Code::kAlreadyExists);
  EXPECT_THAT(pids(record_).value(), ElementsAre(pid));
}

TEST_P(Kernel, ACgroupWithProcessesBelowIsRefusedAndKept) {
  ASSERT_OK(make_leaf());
  const CgroupRecord leaf = record_;
  auto below = [](std::string directory) {
    return directory.empty() ? directory : directory + "/sub";
  };
  record_.unified = below(leaf.unified);
  for (auto& [name, directory] : record_.legacy) directory = below(directory);
  ASSERT_OK(make_leaf());
  const pid_t pid = start_sleeper();
  record_ = leaf;
  const auto again = make_leaf();
  ASSERT_FALSE(again.ok());
  EXPECT_EQ(again.error().code(), Code::kAlreadyExists);
  EXPECT_THAT(again.error().message(), HasSubstr("is not empty"));
  EXPECT_THAT(pids(record_).value(), ElementsAre(pid));
}

TEST_P(Kernel, AMarkIsTheLastOnesWhoMadeIt) {
  ASSERT_OK(make_leaf());
  const Init first{.pid = 7, .start_time = 100};
  const Init second{.pid = 8, .start_time = 200};
  EXPECT_FALSE(is_marked(record_, first));
  mark(record_, first);
  EXPECT_TRUE(is_marked(record_, first));
  EXPECT_FALSE(is_marked(record_, {.pid = 7, .start_time = 101}));
  mark(record_, second);
  EXPECT_FALSE(is_marked(record_, first));
  EXPECT_TRUE(is_marked(record_, second));
  EXPECT_EQ(find_other_below(record_, second), "");
}

TEST_P(Kernel, AnotherContainersCgroupBelowIsFound) {
  ASSERT_OK(make_leaf());
  const Init outer{.pid = 7, .start_time = 100};
  mark(record_, outer);
  const CgroupRecord leaf = record_;
  auto below = [](std::string directory) {
    return directory.empty() ? directory : directory + "/sub";
  };
  record_.unified = below(leaf.unified);
  for (auto& [name, directory] : record_.legacy) directory = below(directory);
  ASSERT_OK(make_leaf());
  EXPECT_EQ(find_other_below(leaf, outer), "");
  mark(record_, {.pid = 8, .start_time = 200});
  EXPECT_EQ(find_other_below(leaf, outer), "") << "it has ended, and goes with what is above it";
  const pid_t pid = start_sleeper();
  EXPECT_THAT(find_other_below(leaf, outer), ::testing::EndsWith("/sub"));
  kill(pid, SIGKILL);
  waitpid(pid, nullptr, 0);
  children_.pop_back();
  record_ = leaf;
}

TEST_P(Kernel, AFailedMakeLeavesNothing) {
  const auto made = make_leaf({.unified = {{"nonsense.max", "1"}}});
  ASSERT_FALSE(made.ok());
  EXPECT_THAT(made.error().message(), HasSubstr("linux.resources.unified[\"nonsense.max\"]"));
  EXPECT_TRUE(record_.unified.empty() ||
              !sys::exists(record_.unified.substr(0, record_.unified.rfind('/'))));
  for (const auto& [name, directory] : record_.legacy)
    EXPECT_FALSE(sys::exists(directory.substr(0, directory.rfind('/')))) << name;
}

TEST_P(Kernel, KillReachesForkBombs) {
  ASSERT_OK(make_leaf());
  if (has("pids")) ASSERT_OK(apply(record_, {.pids_limit = 200}));
  // Bounded twice: by the controller, and by a deadline of its own.
  start([] {
    alarm(20);
    for (int depth = 0; depth < 7; ++depth) (void)!fork();
    signal(SIGCHLD, SIG_IGN);
    const time_t end = time(nullptr) + 15;
    while (time(nullptr) < end) {
      const pid_t pid = fork();
      if (pid == 0) usleep(1000);
      if (pid < 0) usleep(100);
      if (pid == 0 && random() % 2 == 0) _exit(0);
    }
    return 0;
  });
  size_t most = 0;
  for (int i = 0; i < 5000 && most <= 20; ++i) {
    usleep(1000);
    most = std::max(most, pids(record_).value().size());
  }
  EXPECT_GT(most, 20U);
  ASSERT_OK(kill_all(record_, soon()));
  EXPECT_THAT(pids(record_).value(), IsEmpty());
}

TEST_P(Kernel, KillReachesFrozenProcesses) {
  ASSERT_OK(make_leaf());
  start_sleeper();
  ASSERT_OK(freeze(record_, soon()));
  EXPECT_TRUE(frozen(record_).value());
  ASSERT_OK(kill_all(record_, soon()));
  EXPECT_THAT(pids(record_).value(), IsEmpty());
}

TEST_P(Kernel, FreezeStopsAndThawGoesOn) {
  ASSERT_OK(make_leaf());
  auto* counter = static_cast<std::atomic<uint64_t>*>(
      mmap(nullptr, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0));
  start([counter] {
    while (true) ++*counter;
    return 0;
  });
  while (*counter == 0) usleep(100);
  EXPECT_FALSE(frozen(record_).value());
  ASSERT_OK(freeze(record_, soon()));
  const uint64_t at = *counter;
  usleep(20'000);
  EXPECT_EQ(*counter, at);
  ASSERT_OK(thaw(record_));
  EXPECT_FALSE(frozen(record_).value());
  for (int i = 0; i < 1000 && *counter == at; ++i) usleep(1000);
  EXPECT_GT(*counter, at);
  munmap(counter, 4096);
}

TEST_P(Kernel, WaitEmptyWakesWhenTheLastOneGoes) {
  ASSERT_OK(make_leaf());
  const pid_t pid = start([] {
    usleep(50'000);
    return 0;
  });
  const auto early = wait_empty(record_, Deadline::after_ms(5));
  ASSERT_FALSE(early.ok());
  EXPECT_EQ(early.error().code(), Code::kDeadlineExceeded);
  waitpid(pid, nullptr, 0);
  children_.clear();
  ASSERT_OK(wait_empty(record_, soon()));
}

TEST_P(Kernel, RemoveTakesTheContainersOwnCgroupsToo) {
  ASSERT_OK(make_leaf());
  std::vector<std::string> tops;
  for (const auto& [name, directory] : record_.legacy) tops.push_back(directory);
  if (!record_.unified.empty()) tops.push_back(record_.unified);
  for (const std::string& top : tops) ASSERT_OK(sys::make_dirs(top + "/a/b/c", 0755));
  for (const std::string& top : tops) ASSERT_OK(sys::make_dirs(top + "/d", 0755));
  ASSERT_OK(remove(record_, soon()));
  for (const std::string& top : tops) EXPECT_FALSE(sys::exists(top));
}

// A container that may write to its cgroup nests as many as it likes, with a process in the last.
TEST_P(Kernel, EndReachesAnyDepthWithFewDescriptors) {
  constexpr int kLevels = 300;
  ASSERT_OK(make_leaf());
  const pid_t pid = start_sleeper();
  const std::string top = host_.legacy.empty() ? record_.unified : *find_legacy(record_, "freezer");
  std::string deepest = top;
  for (int level = 0; level < kLevels; ++level) {
    deepest += "/d";
    ASSERT_EQ(mkdir(deepest.c_str(), 0755), 0) << level;
  }
  ASSERT_EQ(mkdir(cat(top, "/d/beside").c_str(), 0755), 0);
  ASSERT_OK(sys::write_file(sys::kCwd, deepest + "/cgroup.procs", std::to_string(pid)));
  rlimit before{};
  ASSERT_EQ(getrlimit(RLIMIT_NOFILE, &before), 0);
  const rlimit few{.rlim_cur = 64, .rlim_max = before.rlim_max};
  ASSERT_EQ(setrlimit(RLIMIT_NOFILE, &few), 0);
  const auto found = pids(record_);
  const auto ended = end(record_, soon());
  ASSERT_EQ(setrlimit(RLIMIT_NOFILE, &before), 0);
  ASSERT_OK(found);
  EXPECT_THAT(*found, ElementsAre(pid));
  ASSERT_OK(ended);
  EXPECT_FALSE(sys::exists(top));
  int status = 0;
  ASSERT_EQ(waitpid(pid, &status, 0), pid);
  children_.pop_back();
  EXPECT_EQ(WTERMSIG(status), SIGKILL);
}

TEST_P(Kernel, EndRemovesAnEmptyOneAndKillsInAFullOne) {
  auto all_gone = [&] {
    return std::ranges::none_of(record_.legacy,
                                [](const auto& one) { return sys::exists(one.second); }) &&
           !sys::exists(record_.unified);
  };
  ASSERT_OK(make_leaf());
  ASSERT_OK(end(record_, soon()));
  EXPECT_TRUE(all_gone());
  ASSERT_OK(end(record_, soon()));

  ASSERT_OK(make_leaf());
  const pid_t pid = start_sleeper();
  ASSERT_OK(end(record_, soon()));
  EXPECT_TRUE(all_gone());
  int status = 0;
  ASSERT_EQ(waitpid(pid, &status, 0), pid);
  children_.pop_back();
  EXPECT_EQ(WTERMSIG(status), SIGKILL);
}

// Born in the v2 directory, and through `tasks` on v1: nobody moves it, and it is everywhere.
TEST_P(Kernel, AProcessEntersByItself) {
  ASSERT_OK(make(host_, record_, {}, {}, Part::kUnified));
  ASSERT_OK(make(host_, record_, {}, {}, Part::kLegacy));
  const Ways ways = open_ways(record_).value();
  EXPECT_EQ(ways.unified.valid(), !record_.unified.empty());
  sys::Pipe entered = sys::make_pipe().value();
  auto child = sys::clone_process({.flags = 0, .cgroup = ways.unified}).value();
  if (!child) {
    const bool done = enter(ways.tasks).ok();
    sys::write_all(entered.write, done ? "y" : "n").ignore("the test sees the end");
    while (done) pause();
    _exit(1);
  }
  children_.push_back(child->pid());
  char said = 0;
  ASSERT_EQ(::read(entered.read.raw(), &said, 1), 1);
  EXPECT_EQ(said, 'y');
  for (const auto& [name, directory] : record_.legacy) {
    EXPECT_EQ(trim(*sys::read_file(directory + "/cgroup.procs", 64)), std::to_string(child->pid()))
        << name;
  }
  if (record_.unified.empty()) return;
  EXPECT_EQ(trim(*sys::read_file(record_.unified + "/cgroup.procs", 64)),
            std::to_string(child->pid()));
}

TEST_P(Kernel, JoinBelowStaysBelow) {
  ASSERT_OK(make_leaf());
  std::string top = record_.unified;
  for (const auto& [name, directory] : record_.legacy) {
    top = directory;
    ASSERT_OK(sys::make_dirs(directory + "/sub", 0755));
  }
  if (!record_.unified.empty()) ASSERT_OK(sys::make_dirs(record_.unified + "/sub", 0755));
  const pid_t pid = start_sleeper();
  ASSERT_OK(join_below(record_, "sub", pid));
  EXPECT_THAT(pids(record_).value(), ElementsAre(pid));
  for (const char* bad : {"..", "../..", "sub/../..", "/../x"})
    EXPECT_FALSE(join_below(record_, bad, pid).ok()) << bad;
  // A name that only starts alike is another cgroup.
  EXPECT_FALSE(join_below(record_, "../leafy", pid).ok());
}

TEST_P(Kernel, JoinFollowsAnInitThatLeftItsCgroup) {
  if (record_.unified.empty()) GTEST_SKIP() << "for cgroup v2";
  ASSERT_OK(make_leaf());
  const pid_t init = start_sleeper();
  const pid_t other = start_sleeper();
  const std::string elsewhere =
      record_.unified.substr(0, record_.unified.rfind('/')) + "/elsewhere";
  ASSERT_OK(sys::make_dirs(elsewhere, 0755));
  for (const pid_t pid : {init, other}) {
    ASSERT_OK(sys::write_file(sys::kCwd,
                              (pid == init ? elsewhere : host_.unified) + "/cgroup.procs",
                              std::to_string(pid)));
  }
  ASSERT_EQ(rmdir(record_.unified.c_str()), 0);
  EXPECT_FALSE(frozen(CgroupRecord{.unified = record_.unified, .legacy = {}}).value_or(true));
  EXPECT_FALSE(join(record_, other).ok());
  ASSERT_OK(join(record_, other, init));
  EXPECT_THAT(sys::read_file(elsewhere + "/cgroup.procs", 4096).value_or(""),
              HasSubstr(std::to_string(other)));
}

TEST_P(Kernel, JoinBelowEachTakesSingleControllers) {
  ASSERT_OK(make_leaf());
  const pid_t pid = start_sleeper();
  EXPECT_THAT(join_below_each(record_, {{"no-such", "sub"}}, pid).error().message(),
              HasSubstr("unknown controller no-such"));
  if (record_.legacy.empty()) return;
  const auto& [controller, directory] = record_.legacy.front();
  EXPECT_THAT(join_below_each(record_, {{controller, "../x"}}, pid).error().message(),
              HasSubstr("bad sub cgroup path"));
  EXPECT_EQ(join_below_each(record_, {{controller, "sub"}}, pid).error().code(), Code::kNotFound);
  ASSERT_OK(sys::make_dirs(directory + "/sub", 0755));
  ASSERT_OK(join_below_each(record_, {{controller, "sub"}}, pid));
  EXPECT_EQ(trim(*sys::read_file(directory + "/sub/cgroup.procs", 64)), std::to_string(pid));
  const std::string& other = record_.legacy.back().second;
  EXPECT_EQ(trim(*sys::read_file(other + "/cgroup.procs", 64)), std::to_string(pid));
}

// What is moved into a frozen cgroup stands still, and whoever waits for it too.
TEST_P(Kernel, MakeRefusesAFrozenCgroup) {
  const CgroupRecord above = locate(host_, parent_, "unused").value();
  ASSERT_OK(make(host_, above, {}));
  ASSERT_OK(freeze(above, soon()));
  const auto made = make_leaf();
  ASSERT_OK(thaw(above));
  ASSERT_FALSE(made.ok());
  EXPECT_THAT(made.error().message(),
              HasSubstr("linux.cgroupsPath: container's cgroup unexpectedly frozen"));
  ASSERT_OK(make_leaf());
}

TEST_P(Kernel, LimitsAreWrittenAndShown) {
  const oci::Resources asked{
      .memory = oci::MemoryResources{.limit = 64 << 20, .reservation = 32 << 20},
      .cpu =
          oci::CpuResources{
              .shares = 512, .quota = 50'000, .period = 100'000, .cpus = "0", .mems = "0"},
      .pids_limit = 17};
  if (!has("memory") || !has("cpu") || !has("pids") || !has("cpuset")) {
    const auto made = make_leaf(asked);
    ASSERT_FALSE(made.ok());
    EXPECT_EQ(made.error().code(), Code::kFailedPrecondition);
    EXPECT_THAT(made.error().message(), HasSubstr("linux.resources."));
    EXPECT_THAT(made.error().message(), HasSubstr("no cgroup controller"));
    return;
  }
  ASSERT_OK(make_leaf(asked));
  ASSERT_OK(apply(record_, asked));
  EXPECT_EQ(value_of("pids", "pids.max"), "17");
  const Stats got = stats(record_).value();
  EXPECT_EQ(got.memory->limit_bytes, 64U << 20U);
  EXPECT_EQ(got.pids->limit, 17U);
  EXPECT_EQ(value_of("cpuset", "cpuset.cpus"), "0");
}

TEST_P(Kernel, PidsLimitZeroStillLetsJoin) {
  if (!has("pids")) GTEST_SKIP() << "no pids controller";
  ASSERT_OK(make_leaf({.pids_limit = 0}));
  ASSERT_OK(apply(record_, {.pids_limit = 0}));
  EXPECT_EQ(run([] { return fork() < 0 && errno == EAGAIN ? 0 : 1; }), 0);
}

TEST_P(Kernel, UpdateIsAllOrNothing) {
  if (!has("memory") || !has("pids")) GTEST_SKIP() << "no memory or pids controller";
  const oci::Resources first{.memory = oci::MemoryResources{.limit = 64 << 20}, .pids_limit = 100};
  ASSERT_OK(make_leaf(first));
  ASSERT_OK(apply(record_, first));
  ASSERT_OK(
      update(record_, {.memory = oci::MemoryResources{.limit = 128 << 20}, .pids_limit = 50}));
  EXPECT_EQ(stats(record_)->memory->limit_bytes, 128U << 20U);
  EXPECT_EQ(value_of("pids", "pids.max"), "50");
  // The cpuset is wrong: what was written before it goes back, and the error names the field.
  const auto failed = update(record_, {.memory = oci::MemoryResources{.limit = 32 << 20},
                                       .cpu = oci::CpuResources{.cpus = "4096"},
                                       .pids_limit = 7});
  ASSERT_FALSE(failed.ok());
  EXPECT_THAT(failed.error().message(), HasSubstr("linux.resources.cpu.cpus"));
  EXPECT_EQ(stats(record_)->memory->limit_bytes, 128U << 20U);
  EXPECT_EQ(value_of("pids", "pids.max"), "50");
  // So do wrong device rules, before anything is written.
  EXPECT_FALSE(update(record_, {.devices = {{.type = 'x'}}, .pids_limit = 7}).ok());
  EXPECT_EQ(value_of("pids", "pids.max"), "50");
}

TEST_P(Kernel, MemoryAndSwapMoveTogether) {
  if (!has("memory")) GTEST_SKIP() << "no memory controller";
  const auto swap = [](int64_t limit, int64_t both) {
    return oci::Resources{.memory = oci::MemoryResources{.limit = limit, .swap = both}};
  };
  ASSERT_OK(make_leaf(swap(64 << 20, 128 << 20)));
  if (!record_.legacy.empty() &&
      !sys::exists(*host_.find_legacy("memory") + "/memory.memsw.limit_in_bytes")) {
    GTEST_SKIP() << "this kernel does not account swap";
  }
  ASSERT_OK(apply(record_, swap(64 << 20, 128 << 20)));
  ASSERT_OK(update(record_, swap(256 << 20, 512 << 20)));
  EXPECT_EQ(stats(record_)->memory->limit_bytes, 256U << 20U);
  EXPECT_EQ(stats(record_)->memory->swap_limit_bytes, 256U << 20U);
  ASSERT_OK(update(record_, swap(32 << 20, 64 << 20)));
  EXPECT_EQ(stats(record_)->memory->limit_bytes, 32U << 20U);
  ASSERT_OK(update(record_, {.memory = oci::MemoryResources{.limit = -1}}));
  EXPECT_EQ(stats(record_)->memory->limit_bytes, std::nullopt);
}

TEST_P(Kernel, QuotaAndBurstInAnyOrder) {
  if (!has("cpu")) GTEST_SKIP() << "no cpu controller";
  const auto cpu = [](int64_t quota, uint64_t burst) {
    return oci::Resources{.cpu =
                              oci::CpuResources{.quota = quota, .burst = burst, .period = 100'000}};
  };
  ASSERT_OK(make_leaf(cpu(100'000, 0)));
  ASSERT_OK(apply(record_, cpu(100'000, 80'000)));
  ASSERT_OK(update(record_, cpu(50'000, 20'000)));  // the old burst is above the new quota
  ASSERT_OK(update(record_, cpu(100'000, 90'000)));
}

TEST_P(Kernel, HugepageLimitWhereverItsControllerLives) {
  const oci::Resources asked{.hugepage_limits = {{.page_size = "2MB", .limit = 4 << 20}}};
  if (!has("hugetlb")) GTEST_SKIP() << "no hugetlb controller";
  ASSERT_OK(make_leaf(asked));
  ASSERT_OK(apply(record_, asked));
  EXPECT_THAT(stats(record_)->hugetlb, Contains(::testing::Field(&HugetlbStats::page_size, "2MB")));
  EXPECT_EQ(value_of("hugetlb", record_.legacy.empty() || host_.find_legacy("hugetlb") == nullptr
                                    ? "hugetlb.2MB.max"
                                    : "hugetlb.2MB.limit_in_bytes"),
            std::to_string(4 << 20));
  const auto unknown = apply(record_, {.hugepage_limits = {{.page_size = "3MB", .limit = 1}}});
  ASSERT_FALSE(unknown.ok());
  EXPECT_THAT(unknown.error().message(), HasSubstr("linux.resources.hugepageLimits[0]"));
}

// Opens through a node of our own, so that only the cgroup decides.
int try_open(unsigned major, unsigned minor, int flags) {
  const std::string path = cat("/tmp/fluyt-test-node-", getpid());
  if (mknod(path.c_str(), S_IFCHR | 0600, makedev(major, minor)) != 0) return 100 + errno;
  const int fd = ::open(path.c_str(), flags | O_CLOEXEC | O_NONBLOCK);
  const int error = fd < 0 ? errno : 0;
  unlink(path.c_str());
  return error;
}

TEST_P(Kernel, DevicesAreClosedButForTheDefaultAndTheListed) {
  ASSERT_OK(make_leaf());
  ASSERT_OK(apply(record_, {}));
  EXPECT_EQ(run([] { return try_open(1, 3, O_RDWR); }), 0) << "null";
  EXPECT_EQ(run([] { return try_open(1, 9, O_RDONLY); }), 0) << "urandom";
  EXPECT_EQ(run([] { return try_open(1, 11, O_RDONLY); }), EPERM) << "kmsg";
  ASSERT_OK(
      update(record_,
             {.devices = {{.allow = true, .type = 'c', .major = 1, .minor = 11, .access = "r"}}}));
  EXPECT_EQ(run([] { return try_open(1, 11, O_RDONLY); }), 0);
  EXPECT_EQ(run([] { return try_open(1, 11, O_RDWR); }), EPERM);
  EXPECT_EQ(run([] { return try_open(1, 3, O_RDWR); }), 0);
  // Again and again: the program is exchanged, not piled up.
  for (int i = 0; i < 5; ++i) ASSERT_OK(update(record_, {.devices = {{.allow = false}}}));
  EXPECT_EQ(run([] { return try_open(1, 11, O_RDONLY); }), EPERM);
  ASSERT_OK(update(record_, {.devices = {{.allow = true}}}));
  EXPECT_EQ(run([] { return try_open(1, 11, O_RDONLY); }), 0);
}

TEST_P(Kernel, DeviceRulesThatAreRefusedHalfWayLeaveThoseBefore) {
  ASSERT_OK(make_leaf());
  const std::string* leaf = find_legacy(record_, "devices");
  if (leaf == nullptr) GTEST_SKIP() << "no v1 devices controller: one program is all of the rules";
  ASSERT_OK(apply(record_, {}));
  const std::string above = leaf->substr(0, leaf->rfind('/'));
  ASSERT_OK(sys::write_file(sys::kCwd, above + "/devices.deny", "c 1:11 rwm"));
  const std::string before = value_of("devices", "devices.list");
  const oci::DeviceRule refused{.allow = true, .type = 'c', .major = 1, .minor = 11, .access = "r"};
  const oci::DeviceRule taken{.allow = true, .type = 'c', .major = 1, .minor = 1, .access = "r"};
  const auto updated = update(record_, {.devices = {taken, refused}});
  ASSERT_FALSE(updated.ok());
  EXPECT_THAT(updated.error().message(), HasSubstr("linux.resources.devices"));
  EXPECT_EQ(value_of("devices", "devices.list"), before);
}

TEST_P(Kernel, StatsCountWhatWasDone) {
  ASSERT_OK(make_leaf());
  EXPECT_EQ(run([] {
              prctl(PR_SET_THP_DISABLE, 1, 0, 0, 0);  // a fault a page
              std::vector<char> memory(8 << 20, 'x');
              volatile uint64_t sum = 0;
              for (int i = 0; i < 20'000'000; ++i)
                sum = sum + static_cast<uint64_t>(memory[static_cast<size_t>(i) % memory.size()]);
              return sum > 0 ? 0 : 1;
            }),
            0);
  const Stats got = stats(record_).value();
  if (has("cpuacct", "cpu") || GetParam() == Sort::kUnifiedAlone) {
    ASSERT_TRUE(got.cpu.has_value());
    EXPECT_GT(got.cpu->usage_ns, 1'000'000U);
  }
  if (has("memory")) {
    ASSERT_TRUE(got.memory.has_value());
    EXPECT_GT(got.memory->page_faults, 1000U);
    EXPECT_EQ(got.memory->limit_bytes, std::nullopt);
    EXPECT_GE(got.memory->max_usage_bytes.value_or(0), 8U << 20U);
  }
  EXPECT_TRUE(!has("pids") || got.pids->current == 0U);
  ASSERT_OK(remove(record_, soon()));
  const auto gone = stats(record_);
  ASSERT_FALSE(gone.ok());
  EXPECT_EQ(gone.error().code(), Code::kNotFound);
}

TEST_P(Kernel, OomIsTold) {
  if (!has("memory")) {
    ASSERT_OK(make_leaf());
    EXPECT_EQ(OomWatch::create(record_).error().code(), Code::kFailedPrecondition);
    return;
  }
  const oci::Resources asked{.memory = oci::MemoryResources{.limit = 16 << 20, .swap = 16 << 20}};
  ASSERT_OK(make_leaf(asked));
  ASSERT_OK(apply(record_, asked));
  auto watch = OomWatch::create(record_);
  ASSERT_OK(watch);
  EXPECT_FALSE(watch->take().value());
  EXPECT_EQ(
      run([] {
        for (int i = 0; i < 64; ++i)
          memset(mmap(nullptr, 1 << 20, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0),
                 1, 1 << 20);
        return 0;
      }),
      256 + SIGKILL);
  auto epoll = sys::Epoll::create().value();
  bool told = false;
  ASSERT_OK(epoll.add(watch->fd(), EPOLLIN, [&](uint32_t) { told = true; }));
  EXPECT_EQ(epoll.wait(5000).value(), 1);
  EXPECT_TRUE(told);
  EXPECT_TRUE(watch->take().value());
  EXPECT_FALSE(watch->take().value());
  EXPECT_GE(oom_kills(record_).value(), 1U);
  ASSERT_OK(remove(record_, soon()));
  EXPECT_FALSE(watch->take().value());
}

TEST_P(Kernel, DelegateGivesTheKernelsListAway) {
  ASSERT_OK(make_leaf());
  ASSERT_OK(delegate(record_, 4242));
  if (record_.unified.empty()) return;
  struct stat info{};
  ASSERT_EQ(stat((record_.unified + "/cgroup.procs").c_str(), &info), 0);
  EXPECT_EQ(info.st_uid, 4242U);
  ASSERT_EQ(stat((record_.unified + "/cgroup.max.depth").c_str(), &info), 0);
  EXPECT_EQ(info.st_uid, 0U) << "limits stay ours";
}

TEST_P(Kernel, UnifiedFilesAreWritten) {
  const oci::Resources asked{.unified = {{"cgroup.max.descendants", "7"}}};
  if (GetParam() == Sort::kLegacyAlone) {
    ASSERT_OK(make_leaf());
    EXPECT_FALSE(apply(record_, asked).ok());
    return;
  }
  ASSERT_OK(make_leaf(asked));
  ASSERT_OK(apply(record_, asked));
  EXPECT_EQ(trim(sys::read_file(record_.unified + "/cgroup.max.descendants", 100).value()), "7");
}

}  // namespace
}  // namespace fluyt::runtime::cgroup
