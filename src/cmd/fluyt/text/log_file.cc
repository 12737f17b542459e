#include "cmd/fluyt/text/log_file.h"

#include <fcntl.h>
#include <poll.h>
#include <sys/inotify.h>
#include <unistd.h>

#include <array>
#include <cerrno>

#include "base/strings.h"
#include "sys/file.h"

namespace fluyt::cli {

Result<LogFile> LogFile::open(const std::string& path) {
  sys::Fd file = FLUYT_TRY(sys::open(path, O_RDONLY));
  sys::Fd watch(::inotify_init1(IN_CLOEXEC | IN_NONBLOCK));
  if (!watch.valid()) return Error::from_errno(errno, "inotify_init1()");
  // The folder's watch sees writes to the file as well as the rename and the new file.
  const std::string folder = path.substr(0, path.rfind('/') + 1);
  if (::inotify_add_watch(watch.raw(), folder.c_str(), IN_MODIFY | IN_CREATE | IN_MOVED_TO) < 0) {
    return Error::from_errno(errno, cat("inotify_add_watch(", quote(folder, 512), ")"));
  }
  return LogFile(path, std::move(file), std::move(watch));
}

Result<> LogFile::read_to_end(const std::function<void(std::string_view)>& sink) {
  std::array<char, 65536> buffer;
  while (true) {
    const size_t got = FLUYT_TRY(sys::read_some(file_, buffer));
    if (got == 0) return {};
    sink({buffer.data(), got});
  }
}

Result<> LogFile::read_available(const std::function<void(std::string_view)>& sink) {
  while (true) {
    auto next = sys::open(path_, O_RDONLY);
    // Between the rename and the new file there is none: the old one is then still written to.
    if (!next.ok()) return read_to_end(sink);
    const struct stat now = FLUYT_TRY(sys::stat_of(*next));
    const struct stat ours = FLUYT_TRY(sys::stat_of(file_));
    const bool same = now.st_ino == ours.st_ino && now.st_dev == ours.st_dev;
    // Looked at before the last read of the old one: once the new file is there, its writer has
    // left the old one for good.
    FLUYT_TRY(read_to_end(sink));
    if (same) return {};
    file_ = std::move(*next);
  }
}

Result<> LogFile::wait(int timeout_ms) {
  pollfd entry{.fd = watch_.raw(), .events = POLLIN, .revents = 0};
  if (::poll(&entry, 1, timeout_ms) < 0 && errno != EINTR)
    return Error::from_errno(errno, "poll(inotify)");
  std::array<char, 4096> buffer;
  while (::read(watch_.raw(), buffer.data(), buffer.size()) > 0) {
  }
  return {};
}

}  // namespace fluyt::cli
