#pragma once

#include <array>
#include <cstdint>
#include <memory>
#include <mutex>
#include <span>
#include <vector>

#include "base/result.h"
#include "guest/abi/control.h"
#include "guest/abi/errno.h"
#include "guest/platform/host/child.h"
#include "sys/fd.h"

/// The process that makes sockets of the host's, in the network namespace that it was started in.
/// The sentry has no call for that: it asks, and gets descriptors to send, receive and accept on.
namespace fluyt::guest::host {

/// A struct sockaddr_in or sockaddr_in6.
struct NetAddress {
  std::array<std::byte, 28> bytes{};
  uint32_t length = 0;  // 0: none
  std::span<const std::byte> view() const { return std::span(bytes).first(length); }
};

/// What is asked for. The broker trusts none of it.
struct NetRequest {
  enum Op : uint32_t { kConnect = 1, kListen, kBind };
  enum Flag : uint32_t { kReuseAddress = 1, kReusePort = 2, kV6Only = 4, kBroadcast = 8 };
  uint32_t op = 0;
  uint32_t type = 0;      // SOCK_STREAM, SOCK_DGRAM
  uint32_t protocol = 0;  // 0, or with SOCK_DGRAM the ICMP of its family, for echo requests
  uint32_t flags = 0;
  int32_t backlog = 0;
  NetAddress local;
  NetAddress remote;
};

/// Whether the loopback device of the namespace is to be reached, or the guest has one of its own.
enum class HostLoopback : uint8_t { kNotOurs, kOurs };

class NetBroker {
 public:
  /// Forks it. Before any thread exists.
  static Result<std::unique_ptr<NetBroker>> start(HostLoopback loopback = HostLoopback::kNotOurs);
  NetBroker(const NetBroker&) = delete;
  NetBroker& operator=(const NetBroker&) = delete;

  /// A socket that does not block. Connected ones may be so only later, as after EINPROGRESS.
  ErrnoOr<sys::Fd> make(const NetRequest& request);

 private:
  explicit NetBroker(Child child) : child_(std::move(child)) {}
  std::mutex mutex_;
  Child child_;
};

/// What the broker refuses before it asks the kernel: anything but the two Internet families, and
/// whatever is the host's loopback, which is not the guest's. 0 when it may be.
int refusal(const NetRequest& request, HostLoopback loopback = HostLoopback::kNotOurs);

// The sentry's calls on such sockets. None blocks.
/// Of the control messages only those of IP and IPv6 go out.
ErrnoOr<size_t> net_send(sys::FdRef fd, std::span<const std::byte> data, const NetAddress* to,
                         std::span<const ControlMessage> control = {});
struct NetReceived {
  size_t count = 0;
  size_t whole = 0;  // of a datagram
  NetAddress from;
  std::vector<ControlMessage> control;
};
enum class Details : uint8_t { kNone, kControl };
ErrnoOr<NetReceived> net_receive(sys::FdRef fd, std::span<std::byte> to, bool peek,
                                 Details details = Details::kNone);
ErrnoOr<sys::Fd> net_accept(sys::FdRef fd, NetAddress* peer);
Errno net_shut_down(sys::FdRef fd, int how);
ErrnoOr<NetAddress> net_name(sys::FdRef fd);
ErrnoOr<NetAddress> net_peer(sys::FdRef fd);
int net_error(sys::FdRef fd);
/// Options of a number that tune; those that could reach further are not passed on by callers.
Errno net_set_option(sys::FdRef fd, int level, int option, int value);
Errno net_set_bytes(sys::FdRef fd, int level, int option, std::span<const std::byte> value);
/// How many bytes of it there are.
ErrnoOr<size_t> net_get_bytes(sys::FdRef fd, int level, int option, std::span<std::byte> to);

/// The devices, addresses and routes of the namespace that we are in, before confinement.
struct NetDevice {
  int index = 0;
  std::string name;
  uint32_t flags = 0;
  uint32_t mtu = 0;
  uint16_t kind = 0;
  std::array<uint8_t, 6> hardware{};
  struct Address {
    std::array<uint8_t, 16> bytes{};  // of IPv4: mapped
    uint8_t prefix = 0;
  };
  std::vector<Address> addresses;
};
struct NetRoute {
  std::array<uint8_t, 16> to{};
  uint8_t prefix = 0;
  std::array<uint8_t, 16> gateway{};
  bool v4 = true;
  int index = 0;
  uint32_t metric = 0;
};
struct NetView {
  std::vector<NetDevice> devices;
  std::vector<NetRoute> routes;
};
Result<NetView> look_at_network();

}  // namespace fluyt::guest::host
