#include "guest/platform/host/broker.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <linux/capability.h>
#include <signal.h>
#include <stdlib.h>
#include <unistd.h>

#include <chrono>
#include <filesystem>
#include <fstream>
#include <future>

#include "guest/platform/host/io.h"

namespace fluyt::guest::host {
namespace {

TEST(BrokerSettings, AreThoseOfTheListAlone) {
  std::string folder = "/tmp/fluyt-settings-XXXXXX";
  ASSERT_NE(mkdtemp(folder.data()), nullptr);
  {
    auto procfs = open_procfs();
    ASSERT_TRUE(procfs.ok());
    auto broker =
        Broker::start(folder, *procfs, {"kernel/shmmni", "kernel/nothing", "net/core/somaxconn"});
    ASSERT_TRUE(broker.ok()) << broker.error().message();
    const auto text = [&](size_t index) {
      const ErrnoOr<sys::Fd> file = (*broker)->open_setting(index);
      return file.ok() ? text_of(file.value()) : std::to_string(file.error().value());
    };
    EXPECT_EQ(text(0), host_text(*procfs, "sys/kernel/shmmni"));
    EXPECT_EQ(text(1), std::to_string(ENOENT));
    EXPECT_EQ(text(2), host_text(*procfs, "sys/net/core/somaxconn"));
    EXPECT_EQ(text(3), std::to_string(ENOENT));
    EXPECT_TRUE((*broker)->find_root().ok());
  }
  {
    auto procfs = open_procfs();
    auto broker = Broker::start(folder, *procfs);
    ASSERT_TRUE(broker.ok());
    EXPECT_EQ((*broker)->open_setting(0).error(), Errno(ENOENT));
  }
  rmdir(folder.c_str());
}

TEST(Broker, ShowsNoProcessOfTheHost) {
  auto procfs = open_procfs();
  ASSERT_TRUE(procfs.ok());
  auto broker = Broker::start("/", *procfs);
  ASSERT_TRUE(broker.ok()) << broker.error().message();
  auto root = (*broker)->find_root();
  ASSERT_TRUE(root.ok());
  auto proc = (*broker)->lookup(root->handle, "proc");
  ASSERT_TRUE(proc.ok()) << "the place is there, for the guest's own to be mounted at";
  EXPECT_EQ((*broker)->open(proc->handle, O_RDONLY | O_DIRECTORY).error(), Errno(EACCES));
  for (const std::string& name :
       {std::string("self"), std::to_string(getpid()), std::string("mounts")})
    EXPECT_EQ((*broker)->lookup(proc->handle, name).error(), Errno(EACCES)) << name;
}

// The line of /proc/PID/status that begins so, of our child of that name.
std::string status_of_child(const std::string& name, const std::string& line) {
  std::ifstream children("/proc/thread-self/children");
  for (std::string pid; children >> pid;) {
    std::ifstream status("/proc/" + pid + "/status");
    bool wanted = false;
    for (std::string text; std::getline(status, text);) {
      if (text == "Name:\t" + name) wanted = true;
      if (wanted && text.starts_with(line)) return text;
    }
  }
  return {};
}

TEST(Broker, KeepsTheCapabilitiesThatAreAboutFiles) {
  if (geteuid() != 0) GTEST_SKIP() << "needs root";
  auto procfs = open_procfs();
  ASSERT_TRUE(procfs.ok());
  auto broker = Broker::start("/", *procfs);
  ASSERT_TRUE(broker.ok()) << broker.error().message();
  constexpr uint64_t kKept = 1U << CAP_CHOWN | 1U << CAP_DAC_OVERRIDE | 1U << CAP_DAC_READ_SEARCH |
                             1U << CAP_FOWNER | 1U << CAP_FSETID | 1U << CAP_SETFCAP;
  for (const char* set : {"CapEff", "CapPrm"}) {
    const std::string line = status_of_child("rung-broker", set);
    ASSERT_GT(line.size(), 8U) << set;
    EXPECT_EQ(std::stoull(line.substr(8), nullptr, 16) & ~kKept, 0U) << line;
    EXPECT_NE(std::stoull(line.substr(8), nullptr, 16), 0U) << line;
  }
}

TEST(Broker, IsNotWaitedForByWhoForgets) {
  std::string folder = "/tmp/fluyt-forget-XXXXXX";
  ASSERT_NE(mkdtemp(folder.data()), nullptr);
  std::ofstream(folder + "/f") << "f";
  auto procfs = open_procfs();
  ASSERT_TRUE(procfs.ok());
  auto broker = Broker::start(folder, *procfs);
  ASSERT_TRUE(broker.ok()) << broker.error().message();
  auto found = (*broker)->lookup(Broker::kRoot, "f");
  ASSERT_TRUE(found.ok());
  const pid_t pid = std::stoi(status_of_child("rung-broker", "Pid:").substr(4));
  ASSERT_EQ(kill(pid, SIGSTOP), 0);
  auto asking = std::async(std::launch::async, [&] { return (*broker)->stat(Broker::kRoot).ok(); });
  auto forgetting =
      std::async(std::launch::async, [&] { (*broker)->forget(found->handle, Broker::When::kNow); });
  EXPECT_EQ(forgetting.wait_for(std::chrono::seconds(20)), std::future_status::ready);
  EXPECT_EQ(asking.wait_for(std::chrono::seconds(0)), std::future_status::timeout);
  kill(pid, SIGCONT);
  EXPECT_TRUE(asking.get());
  // And forgotten it is, without anything being asked.
  const auto is_open = [&] {
    const std::string descriptors = "/proc/" + std::to_string(pid) + "/fd/";
    for (const auto& one : std::filesystem::directory_iterator(descriptors)) {
      std::error_code gone;
      if (std::filesystem::read_symlink(one.path(), gone) == folder + "/f") return true;
    }
    return false;
  };
  for (int tries = 0; tries < 2000 && is_open(); ++tries) usleep(5000);
  EXPECT_FALSE(is_open());
  unlink((folder + "/f").c_str());
  rmdir(folder.c_str());
}

}  // namespace
}  // namespace fluyt::guest::host
