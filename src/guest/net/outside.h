#pragma once

#include <memory>

#include "guest/net/address.h"
#include "guest/platform/host/net_broker.h"
#include "guest/platform/host/poller.h"
#include "guest/vfs/file.h"

namespace fluyt::guest {

/// A socket of the host's behind one of the guest's. It wakes the guest's socket itself.
class HostEnd {
 public:
  HostEnd(sys::Fd fd, std::shared_ptr<host::Poller> poller, std::shared_ptr<WaitQueue> queue)
      : fd_(std::move(fd)), poller_(std::move(poller)), queue_(std::move(queue)) {}
  HostEnd(const HostEnd&) = delete;
  HostEnd& operator=(const HostEnd&) = delete;
  ~HostEnd() { poller_->forget(fd_); }
  Errno follow() { return poller_->follow(fd_, *queue_); }

  sys::FdRef fd() const { return fd_; }
  uint32_t ready() const;
  size_t readable_bytes() const;

 private:
  sys::Fd fd_;
  std::shared_ptr<host::Poller> poller_;
  std::shared_ptr<WaitQueue> queue_;
};
using HostEndPtr = std::shared_ptr<HostEnd>;

/// The way out of the sandbox: the broker's sockets.
class Outside {
 public:
  Outside(std::unique_ptr<host::NetBroker> broker, std::shared_ptr<host::Poller> poller)
      : broker_(std::move(broker)), poller_(std::move(poller)) {}

  /// Of AF_INET when both addresses are of IPv4; `local` and `remote` may be null by what is asked.
  ErrnoOr<HostEndPtr> make(host::NetRequest request, const Endpoint* local, const Endpoint* remote,
                           const std::shared_ptr<WaitQueue>& queue);
  ErrnoOr<HostEndPtr> adopt(sys::Fd fd, const std::shared_ptr<WaitQueue>& queue);

 private:
  std::unique_ptr<host::NetBroker> broker_;
  std::shared_ptr<host::Poller> poller_;
};

/// EINVAL when it is of neither family.
ErrnoOr<Endpoint> endpoint_of(const host::NetAddress& address);
host::NetAddress net_address(const Endpoint& at, int family);

}  // namespace fluyt::guest
