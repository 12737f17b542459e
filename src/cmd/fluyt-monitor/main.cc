#include <unistd.h>

#include <csignal>
#include <string>
#include <utility>

#include "base/strings.h"
#include "monitor/process/monitor.h"
#include "sys/file.h"

// Started by fluytd alone (monitor/client/launch.cc), with: 0 and 1 /dev/null, 2 the log, 3 a
// detached mount of fluyt-pod-init, 4 a pipe that hears "ready" or why not.
int main(int argc, char** argv) {
  using namespace fluyt;
  if (argc != 4) {
    const std::string usage =
        "fluyt-monitor is started by fluytd: fluyt-monitor SANDBOX STATE_DIR CGROUP\n";
    sys::write_all(sys::FdRef(STDERR_FILENO), usage).ignore("there is nobody else to tell");
    return 2;
  }
  // A caller's blocked or ignored signals are not ours.
  sigset_t none;
  sigemptyset(&none);
  sigprocmask(SIG_SETMASK, &none, nullptr);
  sys::Fd ready(4);
  monitor::MonitorOptions options{.sandbox_id = argv[1],
                                  .state_dir = argv[2],
                                  .cgroup = argv[3],
                                  .pod_init_program = sys::Fd(3)};
  auto started = monitor::Monitor::create(std::move(options));
  const std::string word = started.ok() ? "ready" : started.error().message();
  sys::write_all(ready, cat(word, "\n")).ignore("fluytd has gone; it will find us by our socket");
  ready.reset();
  if (!started.ok()) return 1;
  auto ended = (*started)->run();
  if (ended.ok()) return 0;
  sys::write_all(sys::FdRef(STDERR_FILENO), cat(ended.error().message(), "\n"))
      .ignore("nobody else to tell");
  return 1;
}
