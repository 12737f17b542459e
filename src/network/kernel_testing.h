#pragma once

#include <gtest/gtest.h>
#include <sched.h>
#include <signal.h>
#include <unistd.h>

#include <functional>
#include <string>
#include <thread>
#include <vector>

#include "base/strings.h"
#include "sys/file.h"
#include "sys/process.h"

/// What tests of networks on the real kernel share: namespaces of their own, seen by nobody else.
namespace fluyt::network::testing {

inline constexpr const char* kPlugins = "/usr/lib/cni";
inline const std::vector<std::string> kEnv = {"PATH=/usr/sbin:/usr/bin:/sbin:/bin"};

inline std::string output_of(std::vector<std::string> args) {
  auto captured =
      sys::run({.args = std::move(args), .env = kEnv}, "", 1U << 20U, Deadline::after_ms(10000));
  if (!captured.ok()) return captured.error().message();
  return cat(captured->out, captured->err);
}

inline std::string netns_of(pid_t pid) { return cat("/proc/", pid, "/ns/net"); }

// A process whose network namespace is a new one.
class Holder {
 public:
  Holder() {
    auto process =
        sys::spawn({.args = {"/usr/bin/unshare", "-n", "/bin/sleep", "120"}, .env = kEnv});
    EXPECT_TRUE(process.ok());
    process_ = std::move(process).value();
    const std::string ours = sys::read_link(sys::kCwd, "/proc/thread-self/ns/net").value();
    for (int i = 0; i < 500 && sys::read_link(sys::kCwd, path()).value_or(ours) == ours; ++i)
      usleep(10'000);
  }
  ~Holder() { end(); }
  Holder(const Holder&) = delete;
  Holder& operator=(const Holder&) = delete;
  void end() {
    if (!process_.valid()) return;
    process_.kill(SIGKILL).ignore("it is about to be waited for");
    process_.wait(Deadline::after_ms(5000)).ignore("the end of a test");
    process_ = {};
  }
  std::string path() const { return netns_of(process_.pid()); }
  std::string run(std::vector<std::string> args) {
    args.insert(args.begin(), {"/usr/bin/nsenter", cat("--net=", path())});
    return output_of(std::move(args));
  }

 private:
  sys::Process process_;
};

// In a thread that lives in a new network namespace, and so do the programs that it starts.
inline void in_new_network(const std::function<void()>& body) {
  std::thread([&] {
    ASSERT_EQ(::unshare(CLONE_NEWNET), 0);
    body();
  }).join();
}

inline bool missing_something() {
  return ::geteuid() != 0 || !sys::exists(cat(kPlugins, "/bridge")) ||
         !sys::exists("/usr/sbin/iptables") || !sys::exists("/usr/bin/nsenter");
}

}  // namespace fluyt::network::testing
