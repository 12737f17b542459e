#include <unistd.h>

#include <csignal>
#include <string>
#include <utility>

#include "base/strings.h"
#include "monitor/process/monitor.h"
#include "sys/file.h"

// Started by fluytd alone (monitor/client/launch.cc), with: 0 and 1 /dev/null, 2 the log, 3 a
// detached mount of fluyt-pod-init, 4 a pipe that hears "ready" or why not. Or by another monitor
// that becomes this one (monitor/process/replace.cc), with 0 to 2 and what the memfd names.
namespace fluyt {
namespace {

int serve(monitor::Monitor& monitor) {
  auto ended = monitor.run();
  if (ended.ok()) return 0;
  sys::write_all(sys::FdRef(STDERR_FILENO), cat(ended.error().message(), "\n"))
      .ignore("nobody else to tell");
  return 1;
}

int resume(char** argv, monitor::ResumeWord word) {
  auto resumed = monitor::Monitor::resume(
      {.sandbox_id = argv[1], .state_dir = argv[2], .cgroup = argv[3], .pod_init_program = {}},
      word);
  if (resumed.ok()) {
    sys::Fd(word.state).reset();
    return serve(**resumed);
  }
  const Error back = monitor::go_back(argv, word);
  sys::write_all(sys::FdRef(STDERR_FILENO),
                 cat(resumed.error().message(), "; ", back.message(), "\n"))
      .ignore("nobody else to tell");
  return 1;
}

}  // namespace
}  // namespace fluyt

int main(int argc, char** argv) {
  using namespace fluyt;
  if (argc == 5) {
    if (const auto word = monitor::parse_resume_word(argv[4])) return resume(argv, *word);
  }
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
  return serve(**started);
}
