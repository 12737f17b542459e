#include "streaming/dial.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <sched.h>
#include <sys/socket.h>

#include <cerrno>
#include <optional>
#include <thread>

#include "base/strings.h"
#include "base/time.h"
#include "sys/clone.h"

namespace fluyt::streaming {
namespace {

constexpr int64_t kConnectMs = 5'000;

Result<> connect_within(sys::FdRef socket, const sockaddr* address, socklen_t size,
                        const std::string& call) {
  if (::connect(socket.raw(), address, size) == 0) return {};
  if (errno != EINPROGRESS) return Error::from_errno(errno, call);
  const Deadline deadline = Deadline::after_ms(kConnectMs);
  pollfd entry{.fd = socket.raw(), .events = POLLOUT, .revents = 0};
  int ready = 0;
  do {
    ready = ::poll(&entry, 1, deadline.poll_timeout_ms());
  } while (ready < 0 && errno == EINTR);
  if (ready == 0) return Error(Code::kDeadlineExceeded, cat(call, ": no answer within 5 s"));
  int failed = 0;
  socklen_t length = sizeof failed;
  if (::getsockopt(socket.raw(), SOL_SOCKET, SO_ERROR, &failed, &length) != 0) failed = errno;
  if (failed != 0) return Error::from_errno(failed, call);
  return {};
}

Result<sys::Fd> open_socket(int family) {
  sys::Fd socket(::socket(family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  if (!socket.valid()) return Error::from_errno(errno, "socket()");
  const int on = 1;
  (void)::setsockopt(socket.raw(), IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);  // slower without
  return socket;
}

Result<sys::Fd> dial_ip4(uint16_t port) {
  sys::Fd socket = FLUYT_TRY(open_socket(AF_INET));
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_port = htons(port);
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  FLUYT_TRY(connect_within(socket, reinterpret_cast<const sockaddr*>(&address), sizeof address,
                           cat("connect(127.0.0.1:", port, ")")));
  return socket;
}

Result<sys::Fd> dial_ip6(uint16_t port) {
  sys::Fd socket = FLUYT_TRY(open_socket(AF_INET6));
  sockaddr_in6 address{};
  address.sin6_family = AF_INET6;
  address.sin6_port = htons(port);
  address.sin6_addr = in6addr_loopback;
  FLUYT_TRY(connect_within(socket, reinterpret_cast<const sockaddr*>(&address), sizeof address,
                           cat("connect([::1]:", port, ")")));
  return socket;
}

Result<sys::Fd> dial_here(uint16_t port) {
  auto socket = dial_ip4(port);
  if (socket.ok()) return socket;
  auto other = dial_ip6(port);
  // Where both fail, what IPv4 said is what most would look for.
  return other.ok() ? std::move(other) : std::move(socket);
}

}  // namespace

Result<sys::Fd> dial(const std::string& netns, uint16_t port) {
  if (netns.empty()) return dial_here(port);
  const sys::Fd space = FLUYT_TRY(sys::open_namespace(netns, CLONE_NEWNET));
  std::optional<Result<sys::Fd>> socket;
  std::thread visitor([&] {
    const auto joined = sys::join_namespaces(space, CLONE_NEWNET);
    socket.emplace(joined.ok() ? dial_here(port) : Result<sys::Fd>(joined.error()));
  });
  visitor.join();
  return std::move(*socket);
}

}  // namespace fluyt::streaming
