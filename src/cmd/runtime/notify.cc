#include "cmd/runtime/notify.h"

#include <fcntl.h>
#include <poll.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstddef>
#include <cstdlib>
#include <cstring>

#include "base/strings.h"
#include "sys/file.h"
#include "sys/patience.h"

namespace fluyt::commands {

namespace {

constexpr const char* kFolder = "notify";
constexpr std::string_view kInside = "/run/notify";
constexpr std::string_view kName = "notify.sock";
constexpr size_t kMaxMessage = 4096;
constexpr int kBarrierMs = 30'000;

constexpr std::array<std::string_view, 9> kAllowed{
    "READY=1",   "RELOADING=1", "STOPPING=1",           "STATUS=",        "ERRNO=",
    "BUSERROR=", "WATCHDOG=1",  "EXTEND_TIMEOUT_USEC=", "MONOTONIC_USEC="};

bool is_allowed(std::string_view line) {
  return std::any_of(kAllowed.begin(), kAllowed.end(), [&](std::string_view one) {
    return one.ends_with('=') ? line.starts_with(one) : line == one;
  });
}

template <class Each>
void each_line(std::string_view text, Each each) {
  while (!text.empty()) {
    const size_t end = std::min(text.find('\n'), text.size());
    each(text.substr(0, end));
    text.remove_prefix(std::min(end + 1, text.size()));
  }
}

struct Address {
  sockaddr_un to{};
  socklen_t size = 0;
};

Address address_of(std::string_view path) {
  Address out;
  out.to.sun_family = AF_UNIX;
  path.copy(out.to.sun_path, path.size());
  if (path.front() == '@') out.to.sun_path[0] = '\0';  // in the abstract namespace
  out.size = static_cast<socklen_t>(offsetof(sockaddr_un, sun_path) + path.size());
  return out;
}

}  // namespace

std::string allowed_lines(std::string_view message) {
  std::string out;
  each_line(message, [&](std::string_view line) {
    if (is_allowed(line)) out += cat(line, "\n");
  });
  return out;
}

bool says_ready(std::string_view message) {
  bool ready = false;
  each_line(message, [&](std::string_view line) { ready = ready || line == "READY=1"; });
  return ready;
}

Result<std::optional<std::string>> NotifyRelay::manager() {
  const char* given = getenv("NOTIFY_SOCKET");
  if (given == nullptr || *given == '\0') return std::optional<std::string>();
  const std::string socket = given;
  if ((socket.front() != '/' && socket.front() != '@') ||
      socket.size() >= sizeof(sockaddr_un::sun_path)) {
    return Error(Code::kInvalidArgument, cat("$NOTIFY_SOCKET: ", quote(socket),
                                             ": expected a path, or a name behind '@', of at most ",
                                             sizeof(sockaddr_un::sun_path) - 1, " bytes"));
  }
  return std::optional(socket);
}

Result<> NotifyRelay::prepare(const Folder& folder, oci::Spec& spec) {
  if (!spec.process) return {};
  if (mkdirat(folder.fd().raw(), kFolder, 0755) != 0)
    return Error::from_errno(errno, cat("mkdirat(", kFolder, ")"));
  oci::Mount mount;
  mount.destination = kInside;
  mount.source = cat(folder.path(), "/", kFolder);
  mount.type = "bind";
  mount.options = {"bind", "ro", "nosuid", "nodev", "noexec"};
  spec.mounts.push_back(std::move(mount));
  std::erase_if(spec.process->env,
                [](const std::string& one) { return one.starts_with("NOTIFY_SOCKET="); });
  spec.process->env.push_back(cat("NOTIFY_SOCKET=", kInside, "/", kName));
  return {};
}

Result<std::optional<NotifyRelay>> NotifyRelay::open(const Folder& folder, std::string manager) {
  const auto place = sys::open(folder.fd(), kFolder, O_PATH | O_DIRECTORY | O_NOFOLLOW);
  if (!place.ok()) {
    if (place.error().code() == Code::kNotFound) return std::optional<NotifyRelay>();
    return place.error();
  }
  sys::Fd socket(::socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  if (!socket.valid()) return Error::from_errno(errno, "socket(AF_UNIX)");
  // Short whatever the state folder's path is.
  const std::string path = cat("/proc/self/fd/", place->raw(), "/", kName);
  const Address address = address_of(path);
  // Whoever the program becomes may speak: the folder is to be seen in this container alone.
  const mode_t before = umask(0111);
  const int bound =
      bind(socket.raw(), reinterpret_cast<const sockaddr*>(&address.to), address.size);
  umask(before);
  if (bound != 0) return Error::from_errno(errno, cat("bind(", kFolder, "/", kName, ")"));
  return std::optional(NotifyRelay(std::move(socket), std::move(manager)));
}

void NotifyRelay::say(std::string_view text, sys::FdRef with) const {
  const sys::Fd fd(::socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0));
  if (!fd.valid()) return;
  Address address = address_of(manager_);
  iovec piece{const_cast<char*>(text.data()), text.size()};
  alignas(cmsghdr) std::array<char, CMSG_SPACE(sizeof(int))> control{};
  msghdr message{};
  message.msg_name = &address.to;
  message.msg_namelen = address.size;
  message.msg_iov = &piece;
  message.msg_iovlen = 1;
  if (with.valid()) {
    message.msg_control = control.data();
    message.msg_controllen = control.size();
    cmsghdr* header = CMSG_FIRSTHDR(&message);
    header->cmsg_level = SOL_SOCKET;
    header->cmsg_type = SCM_RIGHTS;
    header->cmsg_len = CMSG_LEN(sizeof(int));
    const int raw = with.raw();
    std::memcpy(CMSG_DATA(header), &raw, sizeof raw);
  }
  // One that is not taken is missed by the manager, which then does what it does about it.
  (void)::sendmsg(fd.raw(), &message, MSG_NOSIGNAL);
}

bool NotifyRelay::pass() {
  std::array<char, kMaxMessage> buffer;
  // Descriptors that come along are never taken: there is no room for them.
  const ssize_t got = recv(socket_.raw(), buffer.data(), buffer.size(), MSG_DONTWAIT);
  if (got <= 0) return false;
  const std::string_view message(buffer.data(), static_cast<size_t>(got));
  const std::string lines = allowed_lines(message);
  if (!lines.empty()) say(lines);
  return says_ready(message);
}

Result<> NotifyRelay::pass_until_ready(const sys::Process& process, sys::FdRef stop) {
  sys::Patience patience(Deadline::never(), {.fd = stop});
  for (bool ready = false; !ready;) {
    std::array<pollfd, 2> entries{{{process.pidfd().raw(), POLLIN, 0}, {socket_.raw(), POLLIN, 0}}};
    if (!FLUYT_TRY(patience.poll(entries)))
      return Error(Code::kCancelled, "given up before the container's program was ready");
    if (entries[1].revents != 0)
      ready = pass();
    else if (entries[0].revents != 0)
      return {};
  }
  say(cat("MAINPID=", process.pid(), "\n"));
  sys::Pipe barrier = FLUYT_TRY(sys::make_pipe());
  say("BARRIER=1", barrier.write);
  barrier.write.reset();
  pollfd seen{barrier.read.raw(), 0, 0};
  const Deadline deadline = Deadline::after_ms(kBarrierMs);
  while (poll(&seen, 1, deadline.poll_timeout_ms()) < 0 && errno == EINTR) {
  }
  return {};
}

}  // namespace fluyt::commands
