#include "cmd/fluytd/service/manager.h"

#include <fcntl.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <cerrno>
#include <cstddef>
#include <cstdlib>
#include <cstring>
#include <ctime>
#include <utility>

#include "base/strings.h"

namespace fluyt::daemon {
namespace {

constexpr int kFirstDescriptor = 3;  // SD_LISTEN_FDS_START
constexpr int kMostDescriptors = 64;

std::string taken(const char* name) {
  const char* value = ::getenv(name);
  std::string text = value == nullptr ? "" : value;
  ::unsetenv(name);
  return text;
}

Error unexpected(std::string_view name, std::string_view value, std::string_view what) {
  return Error(Code::kInvalidArgument, cat("$", name, ": ", quote(value), ": expected ", what));
}

/// Whether the variable with this process's id is about us; without one it is.
Result<bool> is_ours(const char* name) {
  const std::string text = taken(name);
  if (text.empty()) return true;
  const auto pid = parse_number<pid_t>(text);
  if (!pid) return unexpected(name, text, "a process id");
  return *pid == ::getpid();
}

int64_t monotonic_us() {
  timespec now{};
  ::clock_gettime(CLOCK_MONOTONIC, &now);
  return int64_t{now.tv_sec} * 1'000'000 + now.tv_nsec / 1000;
}

/// Where a listening unix socket listens; empty for anything else.
std::string place_of(sys::FdRef socket) {
  int listens = 0;
  socklen_t size = sizeof listens;
  if (::getsockopt(socket.raw(), SOL_SOCKET, SO_ACCEPTCONN, &listens, &size) != 0 || listens == 0)
    return {};
  sockaddr_un address{};
  size = sizeof address;
  if (::getsockname(socket.raw(), reinterpret_cast<sockaddr*>(&address), &size) != 0 ||
      address.sun_family != AF_UNIX || size <= offsetof(sockaddr_un, sun_path)) {
    return {};
  }
  const size_t most = size - offsetof(sockaddr_un, sun_path);
  return std::string(address.sun_path, ::strnlen(address.sun_path, most));
}

}  // namespace

Result<ServiceManager> ServiceManager::from_environment() {
  ServiceManager manager;
  manager.socket_ = taken("NOTIFY_SOCKET");
  if (!manager.socket_.empty() && manager.socket_.front() != '/' && manager.socket_.front() != '@')
    return unexpected("NOTIFY_SOCKET", manager.socket_, "a path, or a name behind '@'");

  const std::string watchdog = taken("WATCHDOG_USEC");
  const bool watched = FLUYT_TRY(is_ours("WATCHDOG_PID"));
  if (!watchdog.empty() && watched) {
    const auto usec = parse_number<int64_t>(watchdog);
    if (!usec || *usec < 1000) return unexpected("WATCHDOG_USEC", watchdog, "microseconds");
    manager.watchdog_ms_ = *usec / 1000;
  }

  const std::string count_text = taken("LISTEN_FDS");
  taken("LISTEN_FDNAMES");
  const bool handed = FLUYT_TRY(is_ours("LISTEN_PID"));
  if (count_text.empty() || !handed) return manager;
  const auto count = parse_number<int>(count_text);
  if (!count || *count < 0 || *count > kMostDescriptors)
    return unexpected("LISTEN_FDS", count_text, cat("a number up to ", kMostDescriptors));
  for (int fd = kFirstDescriptor; fd < kFirstDescriptor + *count; ++fd) {
    if (::fcntl(fd, F_SETFD, FD_CLOEXEC) != 0)
      return Error::from_errno(errno, cat("$LISTEN_FDS: descriptor ", fd));
    manager.listeners_.emplace_back(fd);
  }
  return manager;
}

void ServiceManager::say(std::string_view text) const {
  if (socket_.empty()) return;
  const sys::Fd fd(::socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0));
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  if (!fd.valid() || socket_.size() >= sizeof address.sun_path) return;
  socket_.copy(address.sun_path, socket_.size());
  if (socket_.front() == '@') address.sun_path[0] = '\0';  // in the abstract namespace
  const auto size = static_cast<socklen_t>(offsetof(sockaddr_un, sun_path) + socket_.size());
  // One that is not taken is missed by the manager, which then does what it does about it.
  (void)::sendto(fd.raw(), text.data(), text.size(), MSG_NOSIGNAL,
                 reinterpret_cast<const sockaddr*>(&address), size);
}

void ServiceManager::ready(std::string_view status) const {
  say(cat("READY=1\nSTATUS=", status, "\n"));
}
void ServiceManager::reloading() const {
  say(cat("RELOADING=1\nMONOTONIC_USEC=", monotonic_us(), "\n"));
}
void ServiceManager::stopping() const { say("STOPPING=1\nSTATUS=stopping; containers go on\n"); }
void ServiceManager::alive() const { say("WATCHDOG=1\n"); }

Result<sys::Fd> ServiceManager::take_listener(const std::string& path) {
  if (listeners_.empty()) return sys::Fd();
  std::string others;
  sys::Fd found;
  for (sys::Fd& one : std::exchange(listeners_, {})) {
    const std::string place = place_of(one);
    if (place == path && !found.valid()) {
      found = std::move(one);
    } else {
      others += cat(others.empty() ? "" : ", ", quote(place));
    }
  }
  if (found.valid()) return found;
  return Error(Code::kFailedPrecondition,
               cat("listen: ", quote(path), ": the service manager has handed over ", others,
                   " instead: expected ListenStream= of fluytd.socket to be that path"));
}

}  // namespace fluyt::daemon
