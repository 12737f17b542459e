#include <fcntl.h>
#include <sys/eventfd.h>
#include <sys/inotify.h>
#include <unistd.h>

#include <array>
#include <cerrno>

#include "base/strings.h"
#include "runtime/cgroup/files.h"
#include "runtime/cgroup/stats.h"
#include "sys/file.h"

namespace fluyt::runtime::cgroup {

namespace {

// v1: the kernel counts up an eventfd that was registered together with memory.oom_control.
Result<sys::Fd> watch_legacy(const std::string& directory) {
  sys::Fd event(eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
  if (!event.valid()) return Error::from_errno(errno, "eventfd()");
  const sys::Fd control = FLUYT_TRY(sys::open(directory + "/memory.oom_control", O_RDONLY));
  FLUYT_TRY(sys::write_file(sys::kCwd, directory + "/cgroup.event_control",
                            cat(event.raw(), " ", control.raw())));
  return event;
}

// v2: memory.events is modified.
Result<sys::Fd> watch_unified(const std::string& directory) {
  sys::Fd watch(inotify_init1(IN_CLOEXEC | IN_NONBLOCK));
  if (!watch.valid()) return Error::from_errno(errno, "inotify_init1()");
  const std::string file = directory + "/memory.events";
  if (inotify_add_watch(watch.raw(), file.c_str(), IN_MODIFY | IN_DELETE_SELF) < 0) {
    return Error::from_errno(errno, cat("inotify_add_watch(", quote(file, 1024), ")"));
  }
  return watch;
}

}  // namespace

Result<OomWatch> OomWatch::create(const CgroupRecord& record) {
  const std::string* legacy = find_legacy(record, "memory");
  if (legacy == nullptr &&
      (record.unified.empty() || !sys::exists(record.unified + "/memory.events"))) {
    return Error(Code::kFailedPrecondition, "OOM events: this cgroup has no memory controller");
  }
  sys::Fd fd = legacy != nullptr ? FLUYT_TRY(watch_legacy(*legacy))
                                 : FLUYT_TRY(watch_unified(record.unified));
  const uint64_t seen = FLUYT_TRY(oom_kills(record));
  return OomWatch(std::move(fd), record, seen);
}

Result<bool> OomWatch::take() {
  std::array<char, 4096> sink{};
  while (true) {
    const ssize_t got = ::read(fd_.raw(), sink.data(), sink.size());
    if (got > 0) continue;
    if (got < 0 && errno == EINTR) continue;
    if (got < 0 && errno != EAGAIN) return Error::from_errno(errno, "read(OOM events)");
    break;
  }
  // The event says that memory ran out, the counter whether somebody died of it. v1 also wakes us
  // when the cgroup is removed: the counter is then gone.
  const uint64_t now = FLUYT_TRY(oom_kills(record_));
  const bool killed = now > seen_;
  if (now > seen_) seen_ = now;
  return killed;
}

}  // namespace fluyt::runtime::cgroup
