#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <poll.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <atomic>
#include <cstdlib>
#include <mutex>
#include <thread>

#include "base/strings.h"
#include "cmd/fluytd/service/manager.h"
#include "cmd/fluytd/service/watchdog.h"
#include "sys/file.h"
#include "sys/socket.h"

namespace fluyt::daemon {
namespace {

using testing::HasSubstr;
using testing::StartsWith;

// As the manager makes it: bound to its path at once.
sys::Fd bound(const std::string& path, int type) {
  sys::Fd fd(::socket(AF_UNIX, type | SOCK_CLOEXEC, 0));
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  path.copy(address.sun_path, sizeof address.sun_path - 1);
  EXPECT_EQ(::bind(fd.raw(), reinterpret_cast<sockaddr*>(&address), sizeof address), 0);
  return fd;
}

/// The manager's end: what was said, a datagram at a time.
class Listener {
 public:
  explicit Listener(const std::string& path) : fd_(bound(path, SOCK_DGRAM)) {}
  std::string next(int timeout_ms = 5000) const {
    pollfd entry{.fd = fd_.raw(), .events = POLLIN, .revents = 0};
    if (::poll(&entry, 1, timeout_ms) != 1) return "nothing";
    std::array<char, 1024> text{};
    const ssize_t got = ::recv(fd_.raw(), text.data(), text.size(), 0);
    return {text.data(), got > 0 ? static_cast<size_t>(got) : 0};
  }

 private:
  sys::Fd fd_;
};

class Service : public testing::Test {
 protected:
  void SetUp() override {
    std::string form = "/tmp/fluyt-service-XXXXXX";
    folder_ = ::mkdtemp(form.data());
    for (const char* name : {"NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID", "LISTEN_FDS",
                             "LISTEN_PID", "LISTEN_FDNAMES"}) {
      ::unsetenv(name);
    }
  }
  void TearDown() override { sys::remove_tree(folder_).ignore("a folder of the test's own"); }
  static std::string own_pid() { return std::to_string(::getpid()); }

  std::string folder_;
};

TEST_F(Service, SaysNothingWhereNobodyListens) {
  const auto manager = ServiceManager::from_environment();
  ASSERT_TRUE(manager.ok());
  manager->ready("serving");
  EXPECT_FALSE(manager->watchdog_ms());
}

TEST_F(Service, TellsTheManagerInItsWords) {
  const Listener listener(folder_ + "/notify");
  ::setenv("NOTIFY_SOCKET", (folder_ + "/notify").c_str(), 1);
  const auto manager = ServiceManager::from_environment();
  ASSERT_TRUE(manager.ok());
  EXPECT_EQ(::getenv("NOTIFY_SOCKET"), nullptr) << "no program of ours may hear of it";
  manager->ready("serves unix:/s");
  EXPECT_EQ(listener.next(), "READY=1\nSTATUS=serves unix:/s\n");
  manager->reloading();
  EXPECT_THAT(listener.next(), StartsWith("RELOADING=1\nMONOTONIC_USEC="));
  manager->stopping();
  EXPECT_THAT(listener.next(), HasSubstr("STOPPING=1\n"));
  manager->alive();
  EXPECT_EQ(listener.next(), "WATCHDOG=1\n");
}

TEST_F(Service, IsWatchedOnlyWhenItIsMeant) {
  ::setenv("WATCHDOG_USEC", "30000000", 1);
  EXPECT_EQ(ServiceManager::from_environment()->watchdog_ms(), 30'000);
  ::setenv("WATCHDOG_USEC", "30000000", 1);
  ::setenv("WATCHDOG_PID", own_pid().c_str(), 1);
  EXPECT_EQ(ServiceManager::from_environment()->watchdog_ms(), 30'000);
  ::setenv("WATCHDOG_USEC", "30000000", 1);
  ::setenv("WATCHDOG_PID", "1", 1);
  EXPECT_FALSE(ServiceManager::from_environment()->watchdog_ms());
  ::setenv("WATCHDOG_USEC", "often", 1);
  EXPECT_THAT(ServiceManager::from_environment().error().message(), HasSubstr("$WATCHDOG_USEC"));
}

// In a child, whose descriptor 3 can be given away.
int taken_in_child(const std::string& given, const std::string& wanted, const std::string& pid) {
  const pid_t child = ::fork();
  if (child == 0) {
    ::unlink(given.c_str());
    const sys::Fd listener = bound(given, SOCK_STREAM);
    if (::listen(listener.raw(), 1) != 0 || ::dup2(listener.raw(), 3) < 0) ::_exit(9);
    ::setenv("LISTEN_FDS", "1", 1);
    ::setenv("LISTEN_PID", pid.empty() ? std::to_string(::getpid()).c_str() : pid.c_str(), 1);
    auto manager = ServiceManager::from_environment();
    if (!manager.ok() || ::getenv("LISTEN_FDS") != nullptr) ::_exit(8);
    auto taken = manager->take_listener(wanted);
    if (!taken.ok()) ::_exit(2);
    ::_exit(taken->valid() ? 1 : 0);
  }
  int status = 0;
  ::waitpid(child, &status, 0);
  return WEXITSTATUS(status);
}

TEST_F(Service, TakesTheListenerOfItsOwnPath) {
  const std::string path = folder_ + "/s";
  EXPECT_EQ(taken_in_child(path, path, ""), 1);
  EXPECT_EQ(taken_in_child(path, folder_ + "/other", ""), 2) << "refused: not the one configured";
  EXPECT_EQ(taken_in_child(path, path, "1"), 0) << "meant for another process";
}

TEST_F(Service, AnswersAreHttp2) {
  const std::string path = folder_ + "/s";
  EXPECT_FALSE(check_answers(path, Deadline::after_ms(1000)).ok()) << "nobody listens";
  const sys::Fd listener = std::move(*sys::listen_unix(path, SOCK_STREAM, 0600));
  EXPECT_EQ(check_answers(path, Deadline::after_ms(50)).error().code(), Code::kDeadlineExceeded);
  ASSERT_TRUE(sys::accept_from(listener).ok()) << "the one that was not answered";
  const auto answer = [&](std::string_view bytes) {
    std::thread server([&] {
      auto peer = sys::accept_from(listener);
      if (!peer.ok()) return;
      sys::write_all(*peer, bytes).ignore("the other end says what it made of it");
      std::array<char, 64> preface{};
      sys::read_some(*peer, preface).ignore("so that no reset overtakes the answer");
    });
    auto checked = check_answers(path, Deadline::after_ms(2000));
    server.join();
    return checked;
  };
  EXPECT_TRUE(answer(std::string_view("\0\0\0\4\0\0\0\0\0", 9)).ok());
  EXPECT_EQ(answer("HTTP/1.1 400 Bad").error().code(), Code::kInternal);
}

TEST_F(Service, WatchdogIsSilentWhileTheEngineIsStuck) {
  const Listener heard(folder_ + "/notify");
  const std::string path = folder_ + "/s";
  ::setenv("NOTIFY_SOCKET", (folder_ + "/notify").c_str(), 1);
  ::setenv("WATCHDOG_USEC", "200000", 1);
  const auto manager = ServiceManager::from_environment();
  ASSERT_TRUE(manager.ok());
  const sys::Fd listener = std::move(*sys::listen_unix(path, SOCK_STREAM, 0600));
  std::atomic<bool> over{false};
  std::thread server([&] {
    while (!over) {
      pollfd entry{.fd = listener.raw(), .events = POLLIN, .revents = 0};
      if (::poll(&entry, 1, 50) != 1) continue;
      auto peer = sys::accept_from(listener);
      if (!peer.ok()) continue;
      // What the client says first: one that finds us gone before has no answer.
      std::array<char, 64> preface{};
      sys::read_some(*peer, preface).ignore("the other end says what it made of it");
      sys::write_all(*peer, std::string_view("\0\0\0\4\0\0\0\0\0", 9)).ignore("as above");
    }
  });
  NullLogger logger;
  std::mutex engine;
  {
    Watchdog watchdog(*manager, [&] { const std::scoped_lock lock(engine); }, path, logger);
    EXPECT_EQ(heard.next(), "WATCHDOG=1\n");
    EXPECT_EQ(heard.next(), "WATCHDOG=1\n");
    {
      const std::scoped_lock stuck(engine);
      while (heard.next(300) == "WATCHDOG=1\n") {
      }
      EXPECT_EQ(heard.next(300), "nothing");
    }
    EXPECT_EQ(heard.next(), "WATCHDOG=1\n");
  }
  over = true;
  server.join();
}

}  // namespace
}  // namespace fluyt::daemon
