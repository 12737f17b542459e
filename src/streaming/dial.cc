#include "streaming/dial.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sched.h>
#include <sys/socket.h>

#include <cerrno>
#include <thread>
#include <utility>

#include "base/strings.h"
#include "sys/clone.h"
#include "sys/file.h"

namespace fluyt::streaming {
namespace {

Result<sys::Fd> open_socket(int family) {
  sys::Fd socket(::socket(family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  if (!socket.valid()) return Error::from_errno(errno, "socket()");
  const int on = 1;
  (void)::setsockopt(socket.raw(), IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);  // slower without
  return socket;
}

Result<DialSockets> open_here() {
  DialSockets sockets{.ip4 = FLUYT_TRY(open_socket(AF_INET)), .ip6 = {}};
  if (auto ip6 = open_socket(AF_INET6); ip6.ok()) sockets.ip6 = std::move(*ip6);
  return sockets;
}

int connect_to_loopback(sys::FdRef socket, int family, uint16_t port) {
  if (family == AF_INET) {
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_port = htons(port);
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    return ::connect(socket.raw(), reinterpret_cast<const sockaddr*>(&address), sizeof address);
  }
  sockaddr_in6 address{};
  address.sin6_family = AF_INET6;
  address.sin6_port = htons(port);
  address.sin6_addr = in6addr_loopback;
  return ::connect(socket.raw(), reinterpret_cast<const sockaddr*>(&address), sizeof address);
}

}  // namespace

Result<DialSockets> open_dial_sockets(const std::string& netns) {
  if (netns.empty()) return open_here();
  const sys::Fd space = FLUYT_TRY(sys::open_namespace(netns, CLONE_NEWNET));
  std::optional<Result<DialSockets>> sockets;
  std::thread visitor([&] {
    const auto joined = sys::join_namespaces(space, CLONE_NEWNET);
    sockets.emplace(joined.ok() ? open_here() : Result<DialSockets>(joined.error()));
  });
  visitor.join();
  return std::move(*sockets);
}

std::unique_ptr<Dial> Dial::begin(Loop& loop, DialSockets sockets, uint16_t port, Done done,
                                  int64_t ms) {
  std::unique_ptr<Dial> dial(new Dial(loop, std::move(sockets), port, std::move(done)));
  Dial* const self = dial.get();
  self->late_ = loop.after(ms, [self, ms] {
    self->end(Error(Code::kDeadlineExceeded,
                    cat("connect(127.0.0.1:", self->port_, "): no answer within ", ms, " ms")));
  });
  loop.post([self, alive = std::weak_ptr<char>(self->alive_)] {
    if (alive.lock()) self->connect_ip4();
  });
  return dial;
}

void Dial::connect_ip4() {
  connect(std::move(sockets_.ip4), AF_INET, [this](Error error) {
    of_ip4_ = std::move(error);
    connect_ip6();
  });
}

void Dial::connect_ip6() {
  // Where both fail, what IPv4 said is what most would look for.
  if (!sockets_.ip6.valid()) return end(*of_ip4_);
  connect(std::move(sockets_.ip6), AF_INET6, [this](const Error&) { end(*of_ip4_); });
}

void Dial::connect(sys::Fd socket, int family, Refused refused) {
  const std::string call =
      cat("connect(", family == AF_INET ? "127.0.0.1" : "[::1]", ":", port_, ")");
  if (connect_to_loopback(socket, family, port_) != 0 && errno != EINPROGRESS)
    return refused(Error::from_errno(errno, call));
  auto watch = loop_.watch(std::move(socket));
  if (!watch.ok()) return refused(std::move(watch).error());
  watch_ = std::move(*watch);
  watch_->when_writable([this, call, refused = std::move(refused)] { look(call, refused); });
}

void Dial::look(const std::string& call, const Refused& refused) {
  int failed = 0;
  socklen_t length = sizeof failed;
  if (::getsockopt(watch_->fd().raw(), SOL_SOCKET, SO_ERROR, &failed, &length) != 0) failed = errno;
  if (failed != 0) return refused(Error::from_errno(failed, call));
  end(sys::duplicate(watch_->fd()));
}

// The last of each way through: it may be the end of this object.
void Dial::end(Result<sys::Fd> result) {
  watch_.reset();
  late_.reset();
  const Done done = std::exchange(done_, {});
  done(std::move(result));
}

}  // namespace fluyt::streaming
