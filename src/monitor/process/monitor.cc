#include "monitor/process/monitor.h"

#include <fcntl.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/signalfd.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <utility>

#include "base/strings.h"
#include "base/time.h"
#include "monitor/protocol/cgroup.h"
#include "runtime/cgroup/cgroup.h"
#include "sys/file.h"
#include "sys/socket.h"

namespace fluyt::monitor {

namespace {

constexpr size_t kMaxLogFileBytes = 1UL << 20U;

}  // namespace

Monitor::Monitor(MonitorOptions options, Loop loop)
    : options_(std::move(options)),
      loop_(std::move(loop)),
      workers_(loop_),
      runtime_(make_linked_runtime(options_.state_dir, std::nullopt)) {}

Monitor::~Monitor() = default;

Result<std::unique_ptr<Monitor>> Monitor::create(MonitorOptions options) {
  auto loop = FLUYT_TRY(Loop::create());
  std::unique_ptr<Monitor> monitor(new Monitor(std::move(options), std::move(loop)));
  FLUYT_TRY(monitor->prepare());
  return monitor;
}

// fluytd has put us into our cgroup.
Result<> Monitor::record_self() {
  const pid_t pid = getpid();
  ProcessRecord record{.pid = pid,
                       .start_time = FLUYT_TRY(sys::start_time_of(pid)),
                       .boot_id = FLUYT_TRY(sys::boot_id())};
  if (!options_.cgroup.empty()) {
    const auto host = host_ ? *host_ : FLUYT_TRY(runtime::cgroup::probe());
    const auto cgroup = FLUYT_TRY(runtime::cgroup::locate(
        host, options_.cgroup, options_.sandbox_id, runtime::cgroup::driver_of(options_.cgroup)));
    put_cgroup(cgroup, record);
  }
  return sys::write_file_atomic(sys::kCwd, cat(options_.state_dir, "/", kMonitorFile),
                                encode(record), 0600);
}

Result<> Monitor::prepare_process() {
  umask(022);  // what containers get when their spec says nothing
  // Once for all containers: to read mountinfo each time takes long on a host with many mounts.
  if (auto host = runtime::cgroup::probe(); host.ok()) host_ = std::move(*host);
  // Its memory holds nothing for others, and a container's tools may see its pid.
  prctl(PR_SET_DUMPABLE, 0);
  if (prctl(PR_SET_CHILD_SUBREAPER, 1) != 0)
    return Error::from_errno(errno, "prctl(PR_SET_CHILD_SUBREAPER)");
  sys::write_file(sys::kCwd, "/proc/self/oom_score_adj", "-999")
      .ignore("the host may not allow it; fluytd reports that once");
  for (const int number : {SIGPIPE, SIGHUP, SIGINT}) signal(number, SIG_IGN);
  sigset_t children;
  sigemptyset(&children);
  sigaddset(&children, SIGCHLD);
  sigprocmask(SIG_BLOCK, &children, nullptr);
  children_ = sys::Fd(signalfd(-1, &children, SFD_CLOEXEC | SFD_NONBLOCK));
  if (!children_.valid()) return Error::from_errno(errno, "signalfd(SIGCHLD)");
  return loop_.epoll().add(children_, EPOLLIN, [this](uint32_t) { on_children(); });
}

Result<> Monitor::prepare() {
  FLUYT_TRY(prepare_process());
  FLUYT_TRY_CONTEXT(record_self(), cat("cgroup ", quote(options_.cgroup)));
  FLUYT_TRY(sys::make_dirs(cat(options_.state_dir, "/", kContainerFolder), 0700));
  listener_ =
      FLUYT_TRY(sys::listen_unix(cat(options_.state_dir, "/", kSocketFile), SOCK_STREAM, 0600));
  FLUYT_TRY(sys::set_nonblocking(listener_, true));
  return loop_.epoll().add(listener_, EPOLLIN, [this](uint32_t) { on_listener(); });
}

Result<> Monitor::run() {
  while (!over_) {
    FLUYT_TRY(loop_.run_once());
    drop_lost_peers();
  }
  return {};
}

Result<Container*> Monitor::get_container(const std::string& id) {
  const auto at = containers_.find(id);
  if (at == containers_.end())
    return Error(Code::kNotFound, cat("container ", quote(id), ": the monitor has none"));
  return at->second.get();
}

void Monitor::persist(const Container& container) {
  auto written =
      sys::write_file_atomic(sys::kCwd, record_path(options_.state_dir, container.info.id),
                             encode_record(container.info), 0600);
  // What happened has happened: it is told even if it cannot be recorded.
  if (!written.ok()) log(cat("record of ", container.info.id, ": ", written.error().message()));
}

void Monitor::log(std::string_view text) {
  if (logged_bytes_ > kMaxLogFileBytes) return;
  const std::string line = cat(format_rfc3339_nano(now_unix_ns()), " ", text, "\n");
  logged_bytes_ += line.size();
  (void)!::write(STDERR_FILENO, line.data(), line.size());
}

}  // namespace fluyt::monitor
