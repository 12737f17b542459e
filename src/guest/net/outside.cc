#include "guest/net/outside.h"

#include <poll.h>
#include <sys/ioctl.h>
#include <sys/socket.h>

#include <algorithm>

#include "guest/platform/host/io.h"

namespace fluyt::guest {

uint32_t HostEnd::ready() const { return host::ready(fd_, POLLIN | POLLOUT | POLLPRI | POLLRDHUP); }

size_t HostEnd::readable_bytes() const {
  int count = 0;
  if (!host::terminal_control(fd_, FIONREAD, &count).ok()) return 0;
  return static_cast<size_t>(std::max(count, 0));
}

ErrnoOr<HostEndPtr> Outside::make(host::NetRequest request, const Endpoint* local,
                                  const Endpoint* remote, const std::shared_ptr<WaitQueue>& queue) {
  const bool v4 = (local == nullptr || local->is_v4()) && (remote == nullptr || remote->is_v4());
  const int family = v4 ? AF_INET : AF_INET6;
  if (local != nullptr) request.local = net_address(*local, family);
  if (remote != nullptr) request.remote = net_address(*remote, family);
  sys::Fd fd = GUEST_TRY(broker_->make(request));
  return adopt(std::move(fd), queue);
}

ErrnoOr<HostEndPtr> Outside::adopt(sys::Fd fd, const std::shared_ptr<WaitQueue>& queue) {
  auto end = std::make_shared<HostEnd>(std::move(fd), poller_, queue);
  GUEST_TRY(end->follow());
  return end;
}

ErrnoOr<Endpoint> endpoint_of(const host::NetAddress& address) {
  SocketAddress as_address;
  as_address.length = address.length;
  std::ranges::copy(address.bytes, as_address.bytes.begin());
  return parse_endpoint(as_address, as_address.family());
}

host::NetAddress net_address(const Endpoint& at, int family) {
  const SocketAddress from = shown(at, family);
  host::NetAddress out;
  out.length = from.length;
  std::copy_n(from.bytes.begin(), out.bytes.size(), out.bytes.begin());
  return out;
}

}  // namespace fluyt::guest
