#include "runtime/cgroup/systemd.h"

#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstring>
#include <functional>

#include "base/strings.h"
#include "base/trace.h"
#include "runtime/cgroup/files.h"
#include "runtime/cgroup/stats.h"
#include "runtime/cgroup/systemd_name.h"
#include "sys/file.h"
#include "sys/process.h"

// What systemd makes of it: scopes of our own in system.slice, which each test removes. For hosts
// where systemd is pid 1 (`./dev vm systemd`).
namespace fluyt::runtime::cgroup {
namespace {

using ::testing::Contains;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::Not;

#define ASSERT_OK(expression)                                   \
  do {                                                          \
    const auto& ok_result = (expression);                       \
    ASSERT_TRUE(ok_result.ok()) << ok_result.error().message(); \
  } while (false)

Deadline soon() { return Deadline::after_ms(30'000); }

class Systemd : public ::testing::Test {
 protected:
  void SetUp() override {
    if (geteuid() != 0) GTEST_SKIP() << "needs root";
    if (!sys::exists("/run/systemd/system")) GTEST_SKIP() << "systemd is not pid 1 here";
    auto host = probe();
    if (!host.ok()) GTEST_SKIP() << host.error().message();
    host_ = std::move(host).value();
    static int counter = 0;
    name_ = cat("test-", getpid(), "-", ++counter);
    auto record =
        locate(host_, cat("system-fluyttest.slice:fluyt:", name_), "id", Driver::kSystemd);
    ASSERT_OK(record);
    record_ = std::move(record).value();
  }
  void TearDown() override {
    if (name_.empty()) return;
    kill_all(record_, soon()).ignore("the test has said what went wrong");
    for (const pid_t pid : children_) {
      ::kill(pid, SIGKILL);
      waitpid(pid, nullptr, 0);
    }
    ASSERT_OK(remove(record_, soon()));
    EXPECT_THAT(active_state(), HasSubstr("inactive"));
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
  int wait_for(pid_t pid) {
    int status = 0;
    waitpid(pid, &status, 0);
    std::erase(children_, pid);
    return WIFEXITED(status) ? WEXITSTATUS(status) : 256 + WTERMSIG(status);
  }
  int run(const std::function<int()>& body) { return wait_for(start(body)); }

  /// Makes the scope, applies the limits and leaves a sleeper in it.
  void start_container(const oci::Resources& resources) {
    auto hold = make(host_, record_, resources);
    ASSERT_OK(hold);
    ASSERT_OK(apply(record_, resources));
    start_sleeper();
  }
  static std::string systemctl(std::vector<std::string> words) {
    words.insert(words.begin(), "/bin/systemctl");
    auto done =
        sys::run({.args = std::move(words), .env = {"PATH=/bin:/usr/bin"}}, "", 1U << 16U, soon());
    return done.ok() ? done->out : done.error().message();
  }
  std::string active_state() const {
    return systemctl({"show", "-p", "ActiveState", record_.unit->name});
  }
  std::string shown(const std::string& property) const {
    return std::string(trim(systemctl({"show", "-p", property, "--value", record_.unit->name})));
  }
  std::string value_of(const std::string& file) const {
    return std::string(trim(sys::read_file(record_.unified + "/" + file, 4096).value_or("?")));
  }
  bool pure_unified() const { return host_.legacy.empty(); }

  Host host_;
  std::string name_;
  CgroupRecord record_;
  std::vector<pid_t> children_;
};

// Opens a device node of its own; the errno.
int open_device(mode_t type, unsigned major_number, unsigned minor_number) {
  const std::string path = cat("/tmp/fluyt-device-", getpid());
  if (mknod(path.c_str(), type | 0600, makedev(major_number, minor_number)) != 0) return errno;
  const int fd = open(path.c_str(), O_RDONLY | O_NONBLOCK);
  const int why = fd < 0 ? errno : 0;
  unlink(path.c_str());
  if (fd >= 0) close(fd);
  return why;
}

TEST_F(Systemd, AScopeIsMadeJoinedAndRemoved) {
  {
    auto hold = make(host_, record_, {});
    ASSERT_OK(hold);
    EXPECT_THAT(pids(record_).value(), ElementsAre(hold->pid()));
    EXPECT_EQ(shown("ActiveState"), "active");
    EXPECT_EQ(shown("Slice"), "system-fluyttest.slice");
    EXPECT_EQ(shown("Delegate"), "yes");
    EXPECT_EQ("/sys/fs/cgroup" + shown("ControlGroup"),
              pure_unified() ? record_.unified : "/sys/fs/cgroup" + shown("ControlGroup"));
    ASSERT_OK(apply(record_, {}));
    start_sleeper();
  }
  EXPECT_THAT(pids(record_).value(), ElementsAre(children_.front()));
  ASSERT_OK(kill_all(record_, soon()));
  ASSERT_OK(remove(record_, soon()));
  ASSERT_OK(remove(record_, soon()));
  EXPECT_FALSE(sys::exists(record_.unified));
}

TEST_F(Systemd, ATakenNameIsToldAndKept) {
  start_container({});
  auto again = make(host_, record_, {});
  ASSERT_FALSE(again.ok());
  EXPECT_EQ(again.error().code(), Code::kAlreadyExists);
  EXPECT_THAT(again.error().message(), HasSubstr(record_.unit->name));
  EXPECT_THAT(again.error().message(), HasSubstr("container's cgroup is not empty"));
  EXPECT_THAT(pids(record_).value(), ElementsAre(children_.front()));
}

TEST_F(Systemd, AFrozenDirectoryInItsPlaceIsToldAndKept) {
  if (!pure_unified()) GTEST_SKIP() << "for cgroup v2";
  ASSERT_OK(sys::make_dirs(record_.unified, 0755));
  ASSERT_OK(sys::write_file(sys::kCwd, record_.unified + "/cgroup.freeze", "1"));
  for (int i = 0; i < 2; ++i) {
    auto made = make(host_, record_, {});
    ASSERT_FALSE(made.ok());
    EXPECT_THAT(made.error().message(), HasSubstr("container's cgroup unexpectedly frozen"));
    EXPECT_EQ(value_of("cgroup.freeze"), "1");
  }
  EXPECT_EQ(rmdir(record_.unified.c_str()), 0);
}

TEST_F(Systemd, AUnitThatFailedIsInNobodysWay) {
  const std::map<std::string, std::string> annotations{
      {"org.systemd.property.RuntimeMaxSec", "1"}, {"org.systemd.property.TimeoutStopSec", "1"}};
  {
    auto hold = make(host_, record_, {}, annotations);
    ASSERT_OK(hold);
    start_sleeper();
  }
  EXPECT_EQ(wait_for(children_.front()), 256 + SIGTERM);
  ASSERT_OK(wait_empty(record_, soon()));
  ASSERT_OK(make(host_, record_, {}));
}

TEST_F(Systemd, AWrongPropertyLeavesNothing) {
  auto made = make(host_, record_, {}, {{"org.systemd.property.NoSuchThing", "1"}});
  ASSERT_FALSE(made.ok());
  EXPECT_THAT(made.error().message(), HasSubstr("NoSuchThing"));
  EXPECT_FALSE(sys::exists(record_.unified));
}

oci::Resources many_limits() {
  return {
      .memory = oci::MemoryResources{.limit = 64 << 20, .reservation = 32 << 20, .swap = 128 << 20},
      .cpu = oci::CpuResources{.shares = 512,
                               .quota = 12'340,
                               .burst = 1000,
                               .period = 100'000,
                               .cpus = "0",
                               .mems = "0"},
      .pids_limit = 17,
      .unified = {
          {"memory.high", "60000000"}, {"memory.min", "1048576"}, {"memory.oom.group", "1"}}};
}

const std::vector<std::string> kFiles{
    "memory.max", "memory.low",      "memory.swap.max", "memory.high", "memory.min",
    "cpu.weight", "cpu.max",         "cpu.max.burst",   "cpuset.cpus", "cpuset.mems",
    "pids.max",   "hugetlb.2MB.max", "io.weight",       "cpu.idle"};

TEST_F(Systemd, LimitsOutliveADaemonReload) {
  if (!pure_unified()) GTEST_SKIP() << "for cgroup v2";
  oci::Resources asked = many_limits();
  asked.hugepage_limits = {{.page_size = "2MB", .limit = 4 << 20}};
  start_container(asked);
  EXPECT_EQ(value_of("memory.max"), "67108864");
  EXPECT_EQ(shown("MemoryMax"), "67108864");
  EXPECT_EQ(value_of("cpu.max"), "13000 100000");
  EXPECT_EQ(shown("CPUQuotaPerSecUSec"), "130ms");
  EXPECT_EQ(value_of("pids.max"), "17");
  EXPECT_EQ(shown("TasksMax"), "17");
  EXPECT_EQ(value_of("memory.high"), "59998208");
  EXPECT_EQ(shown("MemoryHigh"), "60000000");
  EXPECT_EQ(shown("AllowedCPUs"), "0");
  EXPECT_EQ(shown("NeedDaemonReload"), "no");
  std::vector<std::string> files = kFiles;
  auto manager = systemd::Manager::connect(systemd::Manager::Instance::kSystem, soon());
  ASSERT_OK(manager);
  // Before, a scope has no OOMPolicy that could say it.
  if (manager->version() >= 253) files.emplace_back("memory.oom.group");
  std::vector<std::string> before;
  for (const std::string& file : files) before.push_back(cat(file, "=", value_of(file)));
  for (int i = 0; i < 2; ++i) {
    systemctl({"daemon-reload"});
    // A change to the unit makes systemd write the cgroup again.
    systemctl({"set-property", "--runtime", record_.unit->name, "Description=again"});
    std::vector<std::string> after;
    for (const std::string& file : files) after.push_back(cat(file, "=", value_of(file)));
    EXPECT_EQ(after, before);
  }
}

TEST_F(Systemd, IdleOutlivesADaemonReload) {
  if (!pure_unified()) GTEST_SKIP() << "for cgroup v2";
  start_container({.cpu = oci::CpuResources{.idle = 1}});
  EXPECT_EQ(value_of("cpu.idle"), "1");
  systemctl({"daemon-reload"});
  EXPECT_EQ(value_of("cpu.idle"), "1");
  // A weight has no place in an idle unit, and takes idleness away when it comes alone.
  const oci::Resources both{.cpu = oci::CpuResources{.shares = 200, .idle = 1}};
  EXPECT_THAT(left_out(record_, both), HasSubstr("unable to apply both"));
  ASSERT_OK(update(record_, both));
  EXPECT_EQ(value_of("cpu.idle"), "1");
  EXPECT_EQ(left_out(record_, {.cpu = oci::CpuResources{.shares = 200}}), "");
  ASSERT_OK(update(record_, {.cpu = oci::CpuResources{.shares = 200}}));
  EXPECT_EQ(value_of("cpu.idle"), "0");
  ASSERT_OK(update(record_, {.cpu = oci::CpuResources{.idle = 1}}));
  ASSERT_OK(update(record_, {.cpu = oci::CpuResources{.idle = 0}}));
  EXPECT_EQ(value_of("cpu.idle"), "0");
  systemctl({"daemon-reload"});
  EXPECT_EQ(value_of("cpu.idle"), "0");
}

TEST_F(Systemd, DeviceRulesOutliveADaemonReload) {
  // Beside what every container has: /dev/kmsg may be read, /dev/mem not.
  const oci::Resources asked{
      .devices = {{.allow = true, .type = 'c', .major = 1, .minor = 11, .access = "r"}}};
  start_container(asked);
  const auto as_expected = [&](const char* when) {
    EXPECT_EQ(run([] { return open_device(S_IFCHR, 1, 11); }), 0) << when;
    EXPECT_EQ(run([] { return open_device(S_IFCHR, 1, 3); }), 0) << when;
    EXPECT_EQ(run([] { return open_device(S_IFCHR, 1, 5); }), 0) << when;
    EXPECT_EQ(run([] { return open_device(S_IFCHR, 1, 1); }), EPERM) << when;
    EXPECT_EQ(run([] { return open_device(S_IFBLK, 254, 0); }), EPERM) << when;
  };
  as_expected("at first");
  systemctl({"daemon-reload"});
  as_expected("after daemon-reload");
  // Other rules, then once more.
  ASSERT_OK(update(
      record_, {.devices = {{.allow = true, .type = 'c', .major = 1, .minor = 1, .access = "r"}},
                .pids_limit = 50}));
  const auto other = [&](const char* when) {
    EXPECT_EQ(run([] { return open_device(S_IFCHR, 1, 1); }), 0) << when;
    EXPECT_EQ(run([] { return open_device(S_IFCHR, 1, 11); }), EPERM) << when;
    EXPECT_EQ(run([] { return open_device(S_IFCHR, 1, 3); }), 0) << when;
  };
  other("updated");
  systemctl({"daemon-reload"});
  other("updated, after daemon-reload");
}

TEST_F(Systemd, EveryDeviceButOneOutlivesADaemonReload) {
  if (!pure_unified()) GTEST_SKIP() << "v1 cannot make the exception";
  start_container(
      {.devices = {{.allow = true, .type = 'a', .access = "rwm"},
                   {.allow = false, .type = 'c', .major = 1, .minor = 1, .access = "rw"}}});
  for (int i = 0; i < 2; ++i) {
    EXPECT_EQ(run([] { return open_device(S_IFCHR, 1, 11); }), 0);
    EXPECT_EQ(run([] { return open_device(S_IFCHR, 1, 1); }), EPERM);
    systemctl({"daemon-reload"});
  }
}

TEST_F(Systemd, DeviceRulesThatTheKernelRefusesAreNotTheUnits) {
  start_container({});
  const std::string* leaf = find_legacy(record_, "devices");
  if (leaf == nullptr) GTEST_SKIP() << "no v1 devices controller: the kernel refuses none";
  const std::string above = leaf->substr(0, leaf->rfind('/'));
  ASSERT_OK(sys::write_file(sys::kCwd, above + "/devices.deny", "c 1:11 rwm"));
  const std::string before = shown("DeviceAllow");
  EXPECT_FALSE(
      update(record_,
             {.devices = {{.allow = true, .type = 'c', .major = 1, .minor = 11, .access = "r"}}})
          .ok());
  EXPECT_EQ(shown("DeviceAllow"), before);
}

TEST_F(Systemd, UpdateIsAllOrNothing) {
  if (!pure_unified()) GTEST_SKIP() << "for cgroup v2";
  start_container(many_limits());
  ASSERT_OK(update(record_, {.memory = oci::MemoryResources{.limit = 100 << 20, .swap = 200 << 20},
                             .pids_limit = 30}));
  EXPECT_EQ(value_of("memory.max"), "104857600");
  EXPECT_EQ(shown("MemoryMax"), "104857600");
  EXPECT_EQ(value_of("pids.max"), "30");
  // systemd takes the cpus, the kernel refuses the burst.
  const auto failed =
      update(record_, {.memory = oci::MemoryResources{.limit = 80 << 20, .swap = 200 << 20},
                       .cpu = oci::CpuResources{.quota = 20'000, .burst = 90'000'000},
                       .pids_limit = 7});
  ASSERT_FALSE(failed.ok());
  EXPECT_THAT(failed.error().message(), HasSubstr("linux.resources.cpu.burst"));
  // systemd itself refuses the weight.
  EXPECT_FALSE(update(record_, {.pids_limit = 7, .unified = {{"cpu.weight", "99999"}}}).ok());
  for (int i = 0; i < 2; ++i) {
    EXPECT_EQ(value_of("memory.max"), "104857600");
    EXPECT_EQ(shown("MemoryMax"), "104857600");
    EXPECT_EQ(value_of("pids.max"), "30");
    EXPECT_EQ(shown("TasksMax"), "30");
    EXPECT_EQ(value_of("cpu.max"), "13000 100000");
    systemctl({"daemon-reload"});
  }
}

TEST_F(Systemd, AnEmptyScopeGoesAndItsNameIsFree) {
  if (!pure_unified()) GTEST_SKIP() << "for cgroup v2";
  const oci::Resources asked{.memory = oci::MemoryResources{.limit = 16 << 20, .swap = 16 << 20}};
  {
    auto made = make(host_, record_, asked);
    ASSERT_OK(made);
    ASSERT_OK(apply(record_, asked));
    const pid_t eater = start([] {
      pause();
      return 0;
    });
    ::kill(eater, SIGKILL);
    wait_for(eater);
  }
  // Nobody was left: systemd took the scope.
  ASSERT_OK(wait_empty(record_, soon()));
  for (int i = 0; i < 300 && sys::exists(record_.unified); ++i) usleep(100'000);
  EXPECT_FALSE(sys::exists(record_.unified));

  ASSERT_OK(make(host_, record_, asked));
}

class SystemdOom : public Systemd {
 protected:
  // A process takes more memory than it may while a hold is there. What was counted, after the
  // scope would have gone.
  uint64_t kills_of_the_last(const oci::Resources& asked) {
    std::optional<Hold> kept;
    {
      auto made = make(host_, record_, asked);
      EXPECT_TRUE(made.ok());
      EXPECT_TRUE(apply(record_, asked).ok());
      sys::Pipe go = sys::make_pipe().value();
      const pid_t eater = start([&] {
        char byte = 0;
        go.write.reset();
        if (::read(go.read.raw(), &byte, 1) != 1) return 1;
        constexpr size_t kSize = 64UL << 20U;
        void* memory =
            mmap(nullptr, kSize, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        memset(memory, 1, kSize);
        return 0;
      });
      auto held = hold(record_);
      if (!held.ok()) return 0;
      kept.emplace(std::move(*held));
      made->release();
      EXPECT_TRUE(sys::write_all(go.write, "x").ok());
      EXPECT_EQ(wait_for(eater), 256 + SIGKILL);
    }
    systemctl({"daemon-reload"});  // time enough for systemd to take an empty scope
    return oom_kills(record_).value_or(0);
  }
};

TEST_F(SystemdOom, AHoldKeepsTheKillsOfTheLastProcess) {
  if (!pure_unified()) GTEST_SKIP() << "for cgroup v2";
  const oci::Resources asked{.memory = oci::MemoryResources{.limit = 16 << 20, .swap = 16 << 20}};
  EXPECT_EQ(kills_of_the_last(asked), 1U);
}

TEST_F(SystemdOom, AHoldOutlivesTheKillOfAWholeGroup) {
  if (!pure_unified()) GTEST_SKIP() << "for cgroup v2";
  oci::Resources asked{.memory = oci::MemoryResources{.limit = 16 << 20, .swap = 16 << 20}};
  asked.unified["memory.oom.group"] = "1";
  EXPECT_GE(kills_of_the_last(asked), 1U);
}

TEST_F(Systemd, ATraceTellsEachWaitForIt) {
  trace::Recorder recorder;
  const auto waits_in = [&](const char* verb, const std::function<void()>& work) {
    {
      trace::Request walk(recorder, verb);
      walk.of("s");
      work();
    }
    const trace::Walk walk = recorder.walks_of("s", "").back();
    int64_t told_ns = 0;
    for (const trace::Part& part : walk.parts) {
      EXPECT_EQ(part.name, systemd::kSpan);
      told_ns += part.took_ns;
    }
    EXPECT_LE(told_ns, walk.took_ns);
    return walk.parts.size();
  };
  // The scope is made; then a connection and the properties.
  EXPECT_EQ(waits_in("CreateContainer", [&] { start_container({.pids_limit = 30}); }), 3U);
  ASSERT_OK(kill_all(record_, soon()));
  EXPECT_EQ(waits_in("RemoveContainer", [&] { ASSERT_OK(remove(record_, soon())); }), 1U);
}

TEST_F(Systemd, AManagerKnowsItsVersion) {
  auto manager = systemd::Manager::connect(systemd::Manager::Instance::kSystem, soon());
  ASSERT_OK(manager);
  EXPECT_GT(manager->version(), 200);
  EXPECT_THAT(systemctl({"--version"}), HasSubstr(cat("systemd ", manager->version())));
}

}  // namespace
}  // namespace fluyt::runtime::cgroup
